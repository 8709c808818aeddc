"""Checkpoints that can be trusted: complete or not there.

transformers writes a checkpoint's files straight into their place, so a process that is killed
while it writes leaves a folder that looks like one.  `seal` writes a list of the files and their
sizes last, and only folders whose list holds are continued from.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json, write_json
from xmlgrpo_trainer.ranks.processes import Ranks

if TYPE_CHECKING:
    from transformers import TrainerCallback

SEAL = "complete.json"
STATE = "trainer_state.json"  # transformers' name
NUMBERED = re.compile(r"checkpoint-\d+")


def checkpoint_of(checkpoints: Path, step: int) -> Path:
    """Where transformers writes the checkpoint of a step."""
    return checkpoints / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def seal(folder: Path) -> None:
    """Write the list of a checkpoint's files and sizes, after forcing them to the disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[str(path.relative_to(folder))] = path.stat().st_size
    write_json(folder / SEAL, {"step": step_of(folder), "files": files})


def seal_when_saved(ranks: Ranks) -> "TrainerCallback":
    """A callback that seals each checkpoint, once every rank has written its random state."""
    from transformers import TrainerCallback  # takes seconds

    class Seal(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ranks.gather(None)  # until every rank is here
            if ranks.is_first:
                seal(checkpoint_of(Path(args.output_dir), state.global_step))

    return Seal()


class Checkpoints(NamedTuple):
    """What there is to continue from."""

    newest: Path | None  # the newest whose files are all there in full
    damaged: tuple[Path, ...]  # newer ones, which a killed process or a full disk has left


def find_checkpoints(checkpoints: Path) -> Checkpoints:
    """Look through a run's checkpoints, from the newest on."""
    numbered = [path for path in checkpoints.glob("checkpoint-*") if NUMBERED.fullmatch(path.name)]
    damaged: list[Path] = []
    for path in sorted(numbered, key=step_of, reverse=True):
        if _is_whole(path):
            return Checkpoints(path, tuple(damaged))
        damaged.append(path)
    return Checkpoints(None, tuple(damaged))


def is_last(checkpoint: Path) -> bool:
    """Whether a checkpoint is that of a run's last step."""
    state = read_json(checkpoint / STATE)
    return bool(state["global_step"] >= state["max_steps"])


def take_over(checkpoint: Path, trainer: Any) -> None:
    """Put a checkpoint's adapter and step into a trainer that will not train any more."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    weights = load_file(checkpoint / "adapter_model.safetensors")
    set_peft_model_state_dict(trainer.model, weights)
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))


def _is_whole(folder: Path) -> bool:
    try:
        files = read_json(folder / SEAL)["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        return False

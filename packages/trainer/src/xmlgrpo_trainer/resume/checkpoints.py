"""Checkpoints that can be trusted: complete or not there.

transformers writes a checkpoint's files straight into their place, so a process that is killed
while it writes leaves a folder that looks like one.  `seal` writes a list of the files and their
hashes last, and only folders whose list holds are continued from.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import damage, file_hashes
from xmlgrpo_run.disk import writing
from xmlgrpo_run.files import read_json, read_sealed, remove, write_sealed
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
    """Write the list of a checkpoint's files and their hashes, after forcing them to the disk."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != SEAL]
    for path in files:
        with writing(path), path.open("rb") as file:
            os.fsync(file.fileno())
    sealed = {"step": step_of(folder), "files": file_hashes(folder, files)}
    write_sealed(folder / SEAL, sealed)


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

    newest: Path | None  # the newest whose files are all as they were written
    damaged: dict[Path, str]  # newer ones, and what is wrong with each


def find_checkpoints(checkpoints: Path) -> Checkpoints:
    """Look through a run's checkpoints, from the newest on."""
    damaged: dict[Path, str] = {}
    for path in _newest_first(checkpoints):
        wrong = _what_is_wrong(path)
        if wrong is None:
            return Checkpoints(path, damaged)
        damaged[path] = wrong
    return Checkpoints(None, damaged)


def _newest_first(checkpoints: Path) -> list[Path]:
    numbered = [path for path in checkpoints.glob("checkpoint-*") if NUMBERED.fullmatch(path.name)]
    return sorted(numbered, key=step_of, reverse=True)


def remove_unfinished(checkpoints: Path, newest: Path | None) -> list[Path]:
    """Remove checkpoints whose writing, or whose removal, a kill has cut off.

    transformers keeps the ones that were changed last: of two, one with half of its files gone
    would be kept, and the whole one removed.

    Args:
        newest: the newest good one; those before it need only have all their files.
    """
    unfinished = [
        path
        for path in _newest_first(checkpoints)
        if not os.path.lexists(path / SEAL)
        or (newest is not None and step_of(path) < step_of(newest) and _lacks_files(path))
    ]
    for path in unfinished:
        remove(path)
    return unfinished


def _lacks_files(folder: Path) -> bool:
    try:
        names = read_sealed(folder / SEAL)["files"]
    except UserError:
        return False  # damaged, and looked at when it is needed
    return not all((folder / name).exists() for name in names)


def set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that trl does not count it among those that it keeps."""
    aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
    remove(aside)
    return checkpoint.rename(aside)


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


def _what_is_wrong(folder: Path) -> str | None:
    if not (folder / SEAL).is_file():
        return f"{folder} was not written to its end"
    try:
        sealed = read_sealed(folder / SEAL)
    except UserError as error:
        return str(error)
    return damage(folder, sealed["files"])

"""The run folder's life: opened once at a time, continued, or refused; its manifest comes last."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_trainer.config.run_config import RunConfig, check_config, to_yaml
from xmlgrpo_trainer.config.yaml_text import parse_yaml

LOCK = ".lock"
BEFORE = "report-before.json"  # in holdout/: the report problems before training
VERSIONED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "unsloth", "vllm")


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run folder that this process holds."""

    folder: RunFolder
    state: Literal["new", "unfinished", "finished"]


@contextmanager
def open_run(root: Path, config: RunConfig) -> Iterator[OpenRun]:
    """Hold the run folder at `root` for `config`, creating it if it is not there.

    A new one is empty until `write_config`.

    Raises:
        UserError: another process trains into it, or it belongs to another configuration.
    """
    folder = RunFolder(root)
    made = [path for path in (root, *root.parents) if not path.exists()]
    with _locked(root):
        if folder.config.is_file() and _has_begun(folder):
            _refuse_other(folder, config)
            state: Literal["unfinished", "finished"] = (
                "finished" if folder.manifest.is_file() else "unfinished"
            )
            yield OpenRun(folder, state)
            return
        try:
            yield OpenRun(folder, "new")
        finally:
            _leave_no_trace(folder, made)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of a run folder, made if it is not there.

    Raises:
        UserError: another process holds it, or the folder cannot be written into.
    """
    while True:
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = (root / LOCK).open("w")
        except OSError as error:
            raise UserError(f"cannot write into the run folder {str(root)!r}: {error}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is training into {root}; wait for it, or name another RUN"
                ) from None
            if not _is_the_file(lock, root / LOCK):
                continue  # its holder was refused and took the folder away meanwhile
            yield
            return


def _is_the_file(opened: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _leave_no_trace(folder: RunFolder, made: Sequence[Path]) -> None:
    """Take away what a new run has made before it began, if it was refused or stopped then.

    Args:
        made: the folders that were not there before, the innermost first.
    """
    if _has_begun(folder):
        return
    folder.config.unlink(missing_ok=True)
    (folder.root / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # trl makes it, before an engine refuses
        folder.checkpoints.rmdir()
    for path in made:
        with suppress(OSError):  # something else stands in it
            path.rmdir()


def write_config(folder: RunFolder, config: RunConfig) -> None:
    """Say what a run is of, once nothing refuses it any more.

    One that goes on has said it; only what is shown and kept (`watch`) may be other than before.
    """
    write_text(folder.config, to_yaml(config))


def _has_begun(folder: RunFolder) -> bool:
    """Whether anything was measured or trained: a run that was refused leaves its name free."""
    # trl makes the folder of checkpoints before anything can be refused
    has_checkpoints = folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir())
    return folder.manifest.is_file() or folder.holdout.is_dir() or has_checkpoints


def _refuse_other(folder: RunFolder, config: RunConfig) -> None:
    stored = parse_yaml(folder.config.read_text(encoding="utf-8"), str(folder.config))
    before = check_config(stored, str(folder.config)).model_copy(update={"watch": config.watch})
    if before == config:
        return
    changed = sorted(_differences(before.model_dump(), config.model_dump()))
    raise UserError(
        f"{folder.root} holds a run of another configuration ({'; '.join(changed)}); name another "
        "RUN for this one, or remove that folder"
    )


def _differences(before: Any, after: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(before.get(name), after.get(name), inner)
    elif before != after:
        yield f"{key}: {before!r} there, {after!r} here"


def hold_identity(path: Path, identity: dict[str, str]) -> None:
    """Write down what a run stands on, or compare it with what was written at its start.

    A configuration can stay the same while the data file, the model folder or a library changes
    under it.  Continued on other data, problems once trained on could become held-out ones.

    Raises:
        UserError: something differs.
    """
    if not path.is_file():
        write_json(path, identity)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(_differences(before, identity))
    if changed:
        raise UserError(
            f"{path.parent} was begun with something else ({'; '.join(changed)}); restore that to "
            "continue, or name another RUN"
        )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> str | None:
    """The commit of the checkout this code runs from; None outside of one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def versions() -> dict[str, str]:
    """The versions of what a result depends on."""
    found = {}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """The device a run used, and how many CPU cores it could use."""
    import torch

    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
    }

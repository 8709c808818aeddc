"""The run folder is opened by one trainer at a time: begun, continued, or refused."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.lock import one_writer
from xmlgrpo_trainer.config.run_config import RunConfig, load_config

State = Literal["new", "unfinished", "finished"]


@contextmanager
def open_run(folder: RunFolder, config: RunConfig) -> Iterator[State]:
    """Hold a run folder for `config`, creating it if it is not there; one that ends new is removed.

    Raises:
        UserError: another process trains into it, or it belongs to another configuration.
    """
    made = [path for path in (folder.root, *folder.root.parents) if not path.exists()]
    taken = f"another process is training into {folder.root}; wait for it, or name another RUN"
    with one_writer(folder.lock, taken):
        has_begun = _has_begun(folder)
        if has_begun:
            if not folder.config.is_file():
                raise UserError(
                    f"{folder.root} holds a run, and {folder.config} is missing or not a file; "
                    "restore it from a copy, or name another RUN"
                )
            _refuse_other(folder, config)
        is_finished = has_begun and folder.manifest.is_file()
        try:
            folder.ended.unlink(missing_ok=True)
            yield "finished" if is_finished else "unfinished" if has_begun else "new"
            if not folder.manifest.is_file():
                _note_end(folder, "stopped by a signal; saved before it ended")
        except BaseException as error:
            _note_end(folder, _in_words(error))
            raise
        finally:
            if not _has_begun(folder):
                _leave_no_trace(folder, made)


def _note_end(folder: RunFolder, why: str) -> None:
    """Keep why an unfinished run has ended; of one that is killed nothing is kept."""
    with suppress(UserError, OSError):  # of a full disk, the first error is the one to be shown
        if _has_begun(folder) and not folder.manifest.is_file():
            time = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(folder.ended, {"time": time, "why": why})


def _in_words(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    return f"{type(error).__name__}: {error}"


def _has_begun(folder: RunFolder) -> bool:
    """Whether anything was measured or trained: a run that was refused leaves its name free."""
    # trl makes the folder of checkpoints before anything can be refused
    has_checkpoints = folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir())
    return folder.manifest.is_file() or folder.holdout.is_dir() or has_checkpoints


def _leave_no_trace(folder: RunFolder, made: Sequence[Path]) -> None:
    """Take away what a refused run has written, and the folders it made, the innermost first."""
    for path in (folder.config, folder.identity, folder.resolved, folder.lock):
        path.unlink(missing_ok=True)
    for path in (folder.checkpoints, *made):
        with suppress(OSError):  # not there, or something else stands in it
            path.rmdir()


def _refuse_other(folder: RunFolder, config: RunConfig) -> None:
    """Only what is shown and kept (`watch`) may be other than before."""
    before = load_config(folder.config).model_copy(update={"watch": config.watch})
    changed = differences(before.model_dump(), config.model_dump())
    if changed:
        raise UserError(
            f"{folder.root} holds a run of another configuration ({changed}); name another RUN for "
            "this one, or remove that folder"
        )


def differences(before: Any, after: Any) -> str:
    """The keys in which two nested mappings differ, with both values; empty where they agree."""
    return "; ".join(sorted(_differences(before, after)))


def _differences(before: Any, after: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() | after.keys():
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(before.get(name), after.get(name), inner)
    elif before != after:
        yield f"{key}: {before!r} there, {after!r} here"

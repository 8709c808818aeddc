"""All that a run's folder says, whether the run trains, has stopped, or is finished.

A folder that is being written to is never whole: what cannot be read is left out and named.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Words
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.lock import is_held
from xmlgrpo_run.manifest import MANIFEST_FORMAT, Manifest, read_manifest, require_as_trained
from xmlgrpo_run.measures.holdout import HoldoutResult, read_result
from xmlgrpo_run.metrics import MetricsLog, read_log
from xmlgrpo_run.screen.metric_names import words_of
from xmlgrpo_trainer.config.run_config import RunConfig, check_config, load_config

State = Literal["training", "stopped", "finished"]
MOST_VALIDATIONS = 400  # that are kept in memory while a run is watched
LATEST_S = 1e11  # since 1970, beyond which there is no date
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as far as its folder tells."""

    run: RunFolder
    state: State
    config: RunConfig | None
    manifest: Manifest | None  # of a finished run
    log: MetricsLog
    validations: tuple[HoldoutResult, ...]  # in step order
    before: HoldoutResult | None  # the report problems, before training
    after: HoldoutResult | None
    last_step: int | None  # that training goes to, where it is known
    ended: str  # why a stopped one has ended; empty where it could not say so
    unread: tuple[str, ...]  # what could not be read, a sentence each

    @property
    def task(self) -> str | None:
        """The name of its task."""
        return None if self.config is None else self.config.task

    @property
    def words(self) -> Words:
        """Of its task, for tables and plots."""
        return Words() if self.task is None else words_of(self.task)

    @property
    def weights(self) -> Mapping[str, float]:
        """Reward -> weight."""
        return {} if self.config is None else self.config.rewards

    @property
    def times(self) -> list[tuple[int, float]]:
        """(step, seconds since 1970) wherever that is a time at all."""
        return [(step, at) for step, at in self.log.series("time") if 0 <= at < LATEST_S]

    @property
    def step(self) -> int:
        """The newest step that was logged; 0 before the first."""
        return max(self.log.rows, default=0)

    @property
    def progress(self) -> str:
        """The newest step, and of how many where that is known."""
        return f"step {self.step}" + (f" of {self.last_step}" if self.last_step else "")


def read_run(run: RunFolder) -> RunView:
    """Read a run's folder.

    Raises:
        UserError: nothing of a run is there, or what a finished run's training left is damaged.
    """
    run.require_something()
    trains = is_held(run.lock)
    if not trains and not any(map(Path.exists, (run.config, run.metrics, run.manifest))):
        raise UserError(f"{run.root} is not a run: it has no {run.config.name}")
    is_finished = run.manifest.exists()
    unread: list[str] = []
    manifest = _manifest(run, unread) if is_finished else None
    if manifest is not None:
        unread += _gone(run, manifest)

    def tried(read: Callable[[], T], instead: T) -> T:
        try:
            return read()
        except UserError as error:
            if manifest is not None:  # nothing writes there any more
                raise
            unread.append(str(error))
            return instead

    nothing: dict[str, Any] = {}
    resolved = tried(lambda: read_json(run.resolved), nothing) if run.resolved.exists() else nothing
    return RunView(
        run=run,
        state="finished" if is_finished else "training" if trains else "stopped",
        config=tried(lambda: _config(run, manifest), None),
        manifest=manifest,
        log=tried(lambda: read_log(run.metrics), MetricsLog({}, ())),
        validations=tuple(
            found
            for path in sorted(run.holdout.glob("validation-*.json"))
            if (found := tried(partial(_answers, path), None))
        ),
        before=tried(lambda: _answers(run.holdout_before), None),
        after=tried(lambda: _answers(run.holdout_after), None),
        last_step=manifest.steps if manifest else _last_step(resolved),
        ended=tried(lambda: _ended(run), ""),
        unread=tuple(unread),
    )


def _ended(run: RunFolder) -> str:
    return str(read_json(run.ended).get("why", "")) if run.ended.is_file() else ""


def _gone(run: RunFolder, manifest: Manifest) -> Iterator[str]:
    """What training left and is not there any more, a sentence a folder; what changed is refused.

    Completions are counted where they are read, and the curves are drawn anew here.
    """
    gone: dict[Path, list[Path]] = {}
    for name in manifest.files:
        path = run.root / name
        if path == run.curves or run.completions in path.parents:
            continue
        if os.path.lexists(path):
            require_as_trained(run, manifest, path)
        else:
            gone.setdefault(path.parent, []).append(path)
    for folder, (first, *others) in gone.items():
        if others:
            yield f"{len(others) + 1} files of {folder}, which training left, are gone"
        else:
            yield f"{first}, which training left, is gone"


def _manifest(run: RunFolder, unread: list[str]) -> Manifest | None:
    """The manifest; None, and a sentence, for one that another version wrote."""
    if read_json(run.manifest).get("format") == MANIFEST_FORMAT:
        return read_manifest(run)
    try:
        return read_manifest(run)
    except UserError as error:
        unread.append(str(error))
        return None


def _config(run: RunFolder, manifest: Manifest | None) -> RunConfig | None:
    if manifest is not None:
        return check_config(dict(manifest.config), str(run.manifest))
    return load_config(run.config) if run.config.exists() else None


def _last_step(resolved: Mapping[str, Any]) -> int | None:
    settings = resolved.get("grpo")
    steps = settings.get("max_steps") if isinstance(settings, dict) else None
    return steps if type(steps) is int and steps > 0 else None


def _answers(path: Path) -> HoldoutResult | None:
    """What a file of held-out replies holds; None if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return _answers_as_of(os.fspath(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=MOST_VALIDATIONS)
def _answers_as_of(path: str, _mtime_ns: int, _size: int) -> HoldoutResult:
    """Read once, however often a run is looked at."""
    try:
        return read_result(Path(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} does not hold held-out replies as this version writes them "
            f"({error!r}); put the file back, or train again under another name"
        ) from None

"""The results of a run, read once, as they are published: every value, none of our paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.machine_traces import without_paths
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import CHECK_RECORD, MERGE_RECORD, RunFolder
from xmlgrpo_run.manifest import Manifest, require_as_trained

OWN_LABELS = ("base", "tuned", "merged")  # the evaluator's for a run; a GGUF's is its name


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file as it is published, or a part of one."""

    target: str  # its path in the repository
    content: Any  # JSON
    place: tuple[str | int, ...] = ()  # the keys, and places in lists, that lead to the part

    def part(self, *steps: str | int) -> "ResultFile":
        """The part that these steps lead to."""
        return ResultFile(self.target, self.at(*steps), (*self.place, *steps))

    def at(self, *steps: str | int) -> Any:
        """The value that these keys, and places in lists, lead to; None where there is none."""
        value: Any = self.content
        for step in steps:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


@dataclass(frozen=True, slots=True)
class Results:
    """What a run recorded; each is None or empty where there is no such file."""

    manifest: ResultFile | None  # how it was trained, its configuration and held-out result
    resolved: ResultFile | None  # what trl and peft made of the configuration
    merge: ResultFile | None  # the merge's own comparison with the adapter
    check: ResultFile | None  # the export's gates
    ladder: ResultFile | None  # every form of the model on the same items
    evaluations: tuple[ResultFile, ...]  # of the run's own models, and their comparisons
    plots: tuple[Path, ...]  # the training curves, and accuracy over size
    others: tuple[Path, ...]  # evaluations of other models, or no results

    @property
    def files(self) -> tuple[ResultFile, ...]:
        """The files that are published beside the card."""
        single = (self.manifest, self.resolved, self.merge, self.check, self.ladder)
        return (*(file for file in single if file is not None), *self.evaluations)


def read_results(run: RunFolder, manifest: Manifest | None, ggufs: Path) -> Results:
    """Read the results of a run; of a folder of files from elsewhere, those that are there.

    `ggufs` is the folder of its GGUF files: their evaluations are results of this run.

    Raises:
        UserError: a file is there but not readable.
    """
    labels = {*OWN_LABELS, *(path.stem for path in ggufs.glob("*.gguf"))}
    in_eval = {
        path: _read(path, f"results/eval/{path.name}") for path in sorted(run.eval.glob("*.json"))
    }
    own = {path: file for path, file in in_eval.items() if _is_result_of(file, labels)}
    for path in (run.resolved, run.curves):
        if manifest and path.name in manifest.files and path.is_file():
            require_as_trained(run, manifest, path)
    trained = manifest and without_paths(manifest.as_json())
    return Results(
        ResultFile("results/manifest.json", trained) if trained else None,
        _read_if_there(run.resolved, "results/resolved.json"),
        _read_if_there(run.merged / MERGE_RECORD, "results/merge.json"),
        _read_if_there(ggufs / CHECK_RECORD, "results/gguf-check.json"),
        _read_ladder(run),
        tuple(own.values()),
        tuple(plot for plot in (run.curves, run.ladder_plot) if plot.is_file()),
        tuple(path for path in in_eval if path not in own),
    )


def _read(path: Path, target: str) -> ResultFile:
    return ResultFile(target, without_paths(read_json(path)))


def _read_if_there(path: Path, target: str) -> ResultFile | None:
    return _read(path, target) if path.is_file() else None


def _is_result_of(file: ResultFile, labels: set[str]) -> bool:
    """Whether it is an evaluation of one of these models, or a comparison of two of them."""
    models = [model for key in ("label", "first", "second") if (model := file.at(key)) is not None]
    tasks = file.at("tasks")
    has_metrics = isinstance(tasks, Mapping) and all(
        isinstance(file.at("tasks", task, "metrics"), Mapping) for task in tasks
    )
    return has_metrics and bool(models) and all(str(model) in labels for model in models)


def _read_ladder(run: RunFolder) -> ResultFile | None:
    ladder = _read_if_there(run.ladder, "results/ladder.json")
    rungs = [] if ladder is None else ladder.at("rungs")
    if not isinstance(rungs, list) or not all(isinstance(rung, Mapping) for rung in rungs):
        raise UserError(
            f"{run.ladder} is not a ladder's result; remove it and run the ladder again: "
            f"make ladder RUN={run.called}"
        )
    return ladder

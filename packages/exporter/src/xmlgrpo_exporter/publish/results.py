"""The results of a run, read once, as they are published: every value, none of our paths."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import without_paths
from xmlgrpo_run.folder import CHECK_RECORD, MERGE_RECORD, RunFolder
from xmlgrpo_run.manifest import Manifest

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
    plots: tuple[OwnFile, ...]  # the training curves, and accuracy over size
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
    evaluations, others = [], []
    for path in sorted(run.eval.glob("*.json")):
        file, target = OwnFile(run.root, path), f"results/eval/{path.name}"
        if _is_result_of(_published(file, target, is_sealed=False), labels):
            evaluations.append(_published(file, target))
        else:
            others.append(path)
    if manifest is not None:
        OwnFile(run.root, run.manifest)  # refuses a link
    trained = manifest and without_paths(manifest.as_json())
    ladder = _read_ladder(run)
    resolved = _as_trained(run, manifest, run.resolved)
    plots = [_as_trained(run, manifest, run.curves), _plot_of(run, ladder)]
    return Results(
        ResultFile("results/manifest.json", trained) if trained else None,
        _published(resolved, "results/resolved.json", is_sealed=False) if resolved else None,
        _read_if_there(run, run.merged / MERGE_RECORD, "results/merge.json"),
        _read_if_there(run, ggufs / CHECK_RECORD, "results/gguf-check.json"),
        ladder,
        tuple(evaluations),
        tuple(plot for plot in plots if plot is not None),
        tuple(others),
    )


def _as_trained(run: RunFolder, manifest: Manifest | None, path: Path) -> OwnFile | None:
    """A file that training left, as the manifest has its hash; None where it has none."""
    if manifest is None or path.name not in manifest.files or not os.path.lexists(path):
        return None
    file = OwnFile(run.root, path)
    if file.sha256() != manifest.files[path.name]:
        raise UserError(
            f"{path} is damaged or was changed; restore it from a copy, or train the run again"
        )
    return file


def _plot_of(run: RunFolder, ladder: ResultFile | None) -> OwnFile | None:
    """The picture that was drawn of this ladder; None where there is no such one."""
    if ladder is None or not ladder.at("plot_sha256") or not os.path.lexists(run.ladder_plot):
        return None
    file = OwnFile(run.root, run.ladder_plot)
    return file if file.sha256() == ladder.at("plot_sha256") else None


def _published(file: OwnFile, target: str, *, is_sealed: bool = True) -> ResultFile:
    return ResultFile(target, without_paths(file.json(is_sealed=is_sealed)))


def _read_if_there(run: RunFolder, path: Path, target: str) -> ResultFile | None:
    return _published(OwnFile(run.root, path), target) if os.path.lexists(path) else None


def _is_result_of(file: ResultFile, labels: set[str]) -> bool:
    """Whether it is an evaluation of one of these models, or a comparison of two of them."""
    models = [model for key in ("label", "first", "second") if (model := file.at(key)) is not None]
    tasks = file.at("tasks")
    has_metrics = isinstance(tasks, Mapping) and all(
        isinstance(file.at("tasks", task, "metrics"), Mapping) for task in tasks
    )
    return has_metrics and bool(models) and all(str(model) in labels for model in models)


def _read_ladder(run: RunFolder) -> ResultFile | None:
    ladder = _read_if_there(run, run.ladder, "results/ladder.json")
    rungs = [] if ladder is None else ladder.at("rungs")
    if not isinstance(rungs, list) or not all(isinstance(rung, Mapping) for rung in rungs):
        raise UserError(
            f"{run.ladder} is not a ladder's result; remove it and run the ladder again: "
            f"make ladder RUN={run.called}"
        )
    return ladder

"""The result files of a run, read once: the only place the card's numbers come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.card.figures import ResultFile, escape_pointer, read_result
from xmlgrpo_exporter.upload.texts import to_bytes, without_paths
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import CHECK_RECORD, MERGE_RECORD, RunFolder
from xmlgrpo_run.manifest import read_manifest

OWN_LABELS = ("base", "tuned", "merged")  # the evaluator's for a run; a GGUF's is its name


@dataclass(frozen=True, slots=True)
class RunResults:
    """What a run recorded; each is None or empty where there is no such file.

    Attributes:
        manifest: how it was trained, and its held-out result.
        config: the configuration.
        resolved: what trl and peft made of it, their defaults included.
        merge: the merge's own comparison with the adapter.
        check: the export's gate.
        ladder: every form of the model on the same items.
        evals: the results of the run's own models and their comparisons, by file name.
        others: files in the folder of results that are of other models, or no results.
        curves: the plot of the training curves.
        ladder_plot: the plot of accuracy over size.
    """

    manifest: ResultFile | None
    config: ResultFile | None
    resolved: ResultFile | None
    merge: ResultFile | None
    check: ResultFile | None
    ladder: ResultFile | None
    evals: tuple[ResultFile, ...]
    others: tuple[Path, ...]
    curves: Path | None
    ladder_plot: Path | None

    @property
    def plots(self) -> tuple[Path, ...]:
        """The plots that are published beside the card."""
        return tuple(plot for plot in (self.curves, self.ladder_plot) if plot is not None)

    @property
    def files(self) -> tuple[ResultFile, ...]:
        """The files that are published beside the card."""
        single = (
            *(self.manifest, self.config, self.resolved),
            *(self.merge, self.check, self.ladder),
        )
        return (*(file for file in single if file is not None), *self.evals)


def read_results(root: Path, gguf_folder: Path | None) -> RunResults:
    """Read the results of a run; of a folder of files from elsewhere, those that are there.

    Args:
        root: the run folder.
        gguf_folder: where the GGUF files are, if there are any.

    Raises:
        UserError: a file is there but not readable, or the run's training has not finished.
    """
    run = RunFolder(root)
    evals, others = _read_evaluations(run, gguf_folder or run.gguf)
    manifest = config = None
    if run.manifest.is_file() or run.metrics.is_file():  # its own training has begun: is it over?
        recorded = read_manifest(run).as_json()
        config = ResultFile("results/config.json", without_paths(recorded.pop("config")))
        manifest = ResultFile("results/manifest.json", without_paths(recorded))
    return RunResults(
        manifest,
        config,
        _read_if_there(run.resolved, "results/resolved.json"),
        _read_if_there(run.merged / MERGE_RECORD, "results/merge.json"),
        _read_if_there((gguf_folder or run.gguf) / CHECK_RECORD, "results/gguf-check.json"),
        _read_ladder(run),
        evals,
        others,
        run.curves if run.curves.is_file() else None,
        run.ladder_plot if run.ladder_plot.is_file() else None,
    )


def _read_evaluations(
    run: RunFolder, gguf: Path
) -> tuple[tuple[ResultFile, ...], tuple[Path, ...]]:
    """The results of the run's own models, and what else lies beside them."""
    own = {*OWN_LABELS, *(path.stem for path in gguf.glob("*.gguf"))}
    evals, others = [], []
    for path in sorted(run.eval.glob("*.json")):
        file = read_result(path, f"results/eval/{path.name}")
        named = [file.at(place) for place in ("/label", "/first", "/second")]
        labels = [label for label in named if label is not None]
        tasks = file.at("/tasks")
        is_result = isinstance(tasks, Mapping) and all(
            isinstance(file.at(f"/tasks/{escape_pointer(task)}/metrics"), Mapping) for task in tasks
        )
        if is_result and labels and all(label in own for label in map(str, labels)):
            evals.append(file)
        else:
            others.append(path)
    return tuple(evals), tuple(others)


def published_bytes(file: ResultFile) -> bytes:
    """A result file as it is published."""
    return to_bytes(dict(file.content))


def _read_ladder(run: RunFolder) -> ResultFile | None:
    ladder = _read_if_there(run.ladder, "results/ladder.json")
    rungs = [] if ladder is None else ladder.at("/rungs")
    if not isinstance(rungs, list) or not all(isinstance(rung, Mapping) for rung in rungs):
        raise UserError(
            f"{run.ladder} is no ladder; remove it and climb again: make ladder RUN={run.called}"
        )
    return ladder


def _read_if_there(path: Path, published: str) -> ResultFile | None:
    return read_result(path, published) if path.is_file() else None

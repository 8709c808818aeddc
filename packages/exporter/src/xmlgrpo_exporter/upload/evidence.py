"""Were the results measured on these very weights?

A result is found by its name (`eval/merged.json`, a rung of the ladder), and the weights of that
name may have been replaced since.  Evaluations record a digest of what they loaded, the merge a
hash of the folder that it compared with the adapter, the export's check a hash of each file: all
must be those of the files that lie here now.
"""

from pathlib import Path

from xmlgrpo_exporter.card.figures import ResultFile
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.merge.record import require_compared
from xmlgrpo_exporter.upload.base_model import BaseModel
from xmlgrpo_exporter.upload.contents import Contents
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder


def evidence_problems(run: RunFolder, base: BaseModel, results: RunResults) -> list[str]:
    """Why the run's results say nothing of the weights that lie in it, each with what to do.

    Args:
        run: the run's folder; of a folder of files from elsewhere there is nothing to compare.
        base: the base model.
        results: what the run recorded.
    """
    return [
        *_training_problems(run, results),
        *_merge_problems(run, results),
        *_evaluation_problems(run, base, results),
    ]


def _training_problems(run: RunFolder, results: RunResults) -> list[str]:
    """The held-out result in the manifest is of the adapter that training left."""
    trained = results.manifest and results.manifest.at("/adapter")
    if not trained or not run.adapter.is_dir() or trained == model_digest(run.adapter):
        return []
    problem = (
        f"{run.adapter} is not the adapter that training left there, and the manifest's results "
        "are that one's; put it back, or publish this one from a folder of its own"
    )
    return [problem]


def _merge_problems(run: RunFolder, results: RunResults) -> list[str]:
    """The chain from the adapter over the merged weights to the GGUF files."""
    if results.merge is None or not (run.merged / MERGE_RECORD).is_file():
        return []
    problems = []
    try:
        require_compared(run.merged)
    except UserError as error:
        problems.append(str(error))
    merged_from = results.merge.at("/source/adapter")
    if merged_from and run.adapter.is_dir() and merged_from != model_digest(run.adapter):
        problems.append(
            f"{run.merged} was merged from another adapter than {run.adapter}; remove it and merge "
            f"again: make merge RUN={run.called}"
        )
    checked = results.check and results.check.at("/model/fingerprint")
    if checked and checked != results.merge.at("/fingerprint"):
        problems.append(
            f"the GGUF files were made from other merged weights than {run.merged}; make them "
            f"again: make gguf RUN={run.called}"
        )
    return problems


def measured_labels(results: RunResults) -> set[str]:
    """The labels of the models that the evaluations are of."""
    return {str(label) for file in results.evals if (label := file.at("/label")) is not None}


def _evaluation_problems(run: RunFolder, base: BaseModel, results: RunResults) -> list[str]:
    contents = Contents(run, base)
    return [
        f"{run.eval / Path(evaluation.published).name} was measured on other weights of "
        f"{evaluation.at('/label')} than those here; remove it and evaluate again: "
        f"make eval RUN={run.called}, or make ladder RUN={run.called}"
        for evaluation in results.evals
        if _is_of_these(evaluation, contents) is False
    ]


def _is_of_these(evaluation: ResultFile, contents: Contents) -> bool | None:
    """Whether it was measured on the files that lie here; None where nobody can tell."""
    label = str(evaluation.at("/label"))
    measured, here = evaluation.at("/subject/model/content"), contents.content(label)
    return None if measured is None or here is None else bool(measured == here)

"""Were the results measured on these very weights?

A result is found by its name (`eval/merged.json`, a rung of the ladder), and the weights of that
name may have been replaced since.  Evaluations record a digest of what they loaded, the merge a
hash of the folder that it compared with the adapter, the export's check a hash of each file: all
must be those of the files that lie here now.
"""

from collections.abc import Iterable
from pathlib import Path

from xmlgrpo_exporter.card.figures import ResultFile
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.merge.record import RECORD, require_compared
from xmlgrpo_exporter.upload.base_model import BaseModel
from xmlgrpo_exporter.upload.contents import Contents
from xmlgrpo_exporter.upload.files import PlannedFile
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.fingerprint import fingerprint
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.model_digest import file_sha256


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


def cautions(
    run: RunFolder, base: BaseModel, results: RunResults, files: Iterable[PlannedFile]
) -> list[str]:
    """What stands against nothing that is published, but nothing proves either."""
    published = any(Path(file.target).name == "adapter_model.safetensors" for file in files)
    if not published or (results.manifest and results.manifest.at("/adapter_sha256")):
        return []
    contents = Contents(run, base)
    tuned = [file for file in results.evals if file.at("/label") == "tuned"]
    if any(_is_of_these(evaluation, contents) for evaluation in tuned):
        return []
    return ["which adapter the results are of: not recorded: cannot be proven"]


def _training_problems(run: RunFolder, results: RunResults) -> list[str]:
    """The held-out result in the manifest is of the adapter that training left."""
    left = (
        ("adapter_model.safetensors", "adapter_sha256"),
        ("adapter_config.json", "adapter_config_sha256"),
    )
    for name, key in left:
        trained = results.manifest and results.manifest.at(f"/{key}")
        path = run.adapter / name
        if trained and path.is_file() and trained != file_sha256(path):
            problem = (
                f"{run.adapter} is not the adapter that training left there ({name} is another), "
                "and the manifest's results are that one's; put it back, or publish this one from "
                "a folder of its own"
            )
            return [problem]
    return []


def _merge_problems(run: RunFolder, results: RunResults) -> list[str]:
    """The chain from the adapter over the merged weights to the GGUF files."""
    if results.merge is None or not (run.merged / RECORD).is_file():
        return []
    problems = []
    try:
        require_compared(run.merged)
    except UserError as error:
        problems.append(str(error))
    merged_from = results.merge.at("/source/adapter")
    if merged_from and run.adapter.is_dir() and merged_from != fingerprint(run.adapter):
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
    # older results hold no digest of all bytes, only one of the ends of the weights
    for key, look in (("content", contents.content), ("weights", contents.weights)):
        measured = evaluation.at(f"/subject/model/{key}")
        if measured:
            here = look(label)
            return None if here is None else bool(measured == here)
    return None

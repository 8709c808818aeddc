"""Were the results measured on these very weights?

A result is found by its name (`eval/merged.json`, a rung of the ladder), and the weights of that
name may have been replaced since.  Evaluations record a digest of what they loaded, the merge a
hash of the folder that it compared with the adapter, the export's check a hash of each file: all
must be those of the files that lie here now.
"""

from collections.abc import Mapping
from pathlib import Path

from xmlgrpo_exporter.base_model import BaseModel
from xmlgrpo_exporter.fingerprint import fingerprint, sha256_of
from xmlgrpo_exporter.merge_record import RECORD, require_compared
from xmlgrpo_exporter.run_results import RunResults
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.run_folder import RunFolder
from xmlgrpo_rewards.weights_digest import weights_digest, weights_of


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
    trained = results.manifest and results.manifest.at("/adapter_sha256")
    weights = run.adapter / "adapter_model.safetensors"
    if not trained or not weights.is_file() or trained == sha256_of(weights):
        return []
    problem = (
        f"{run.adapter} is not the adapter that training left there, and the manifest's results "
        "are that one's; put it back, or publish this one from a folder of its own"
    )
    return [problem]


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
            "again (make merge)"
        )
    checked = results.check and results.check.at("/model/fingerprint")
    if checked and checked != results.merge.at("/fingerprint"):
        problems.append(
            f"the GGUF files were made from other merged weights than {run.merged}; make them "
            "again: make gguf RUN=…"
        )
    return problems


def _evaluation_problems(run: RunFolder, base: BaseModel, results: RunResults) -> list[str]:
    digests = {label: weights_digest(files) for label, files in _weights(run, base).items()}
    problems = []
    for evaluation in results.evals:
        label, measured = evaluation.at("/label"), evaluation.at("/subject/model/weights")
        here = digests.get(label)
        if measured and here and measured != here:
            name = Path(evaluation.published).name
            problems.append(
                f"{run.eval / name} was measured on other weights of {label} than those here; "
                "remove it and evaluate again: make eval RUN=… or make ladder RUN=…"
            )
    return problems


def _weights(run: RunFolder, base: BaseModel) -> Mapping[str, list[Path]]:
    """The weights that each label of the evaluator stands for, where they can be named here."""
    known: dict[str, list[Path]] = {
        path.stem: [path] for path in (*run.gguf.glob("*.gguf"), *run.root.glob("*.gguf"))
    }
    if run.merged.is_dir():
        known["merged"] = weights_of(run.merged)
    below = weights_of(base.folder) if base.folder is not None else []
    if below:
        known["base"] = below
    # a base of the Hub has no files of its own in the digest; of a folder that is gone, who knows
    if run.adapter.is_dir() and (below or base.hub_id is not None):
        known["tuned"] = [*below, *weights_of(run.adapter)]
    return known

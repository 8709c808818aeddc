"""What speaks against publishing weights: gates that did not pass, results of other weights.

A gate that failed always refuses.  A gate that never ran refuses too, unless the user says
`--ungated`; then the card says that nothing was checked.

A result is found by its name (`eval/merged.json`, a rung of the ladder), and the weights of that
name may have been replaced since.  So a result holds the digest of what it was measured on, and
that must be the digest of the files that lie here now.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from rich.console import Console

from xmlgrpo_exporter.proof.gate_records import fault_of, modelfile_problems, unchecked
from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_rewards.console_script import this_command
from xmlgrpo_run.digests import digest, hash_ahead, model_files

Digests = Mapping[str, str | None]


def model_digests(release: Release, console: Console) -> Digests:
    """The digests of the models that are published or were measured, as they lie here, by label.

    None where nobody can tell: the model is not here.
    """
    evaluated = {file.at("label") for file in release.results.evaluations} - {None}
    merged = set() if release.results.merge is None else {"merged"}
    labels = {*release.labels, *evaluated, *merged}
    files = {label: _files_of(label, release) for label in labels}
    hash_ahead((path for found in files.values() for path in found), console, "hashing the models")
    return {label: digest(found, release.sha256_of) for label, found in files.items()}


def gate_problems(release: Release, digests: Digests, *, ungated: bool) -> Iterator[str]:
    """Why the gates forbid these files, each reason with what to do.

    GGUF files need the export's check and the ladder, merged weights the merge's comparison with
    the adapter and the ladder; an adapter is what training wrote and needs none.  A ladder
    counts for the files whose digest its rungs name, the adapter's too, and for no others.
    """
    run, results = release.run, release.results
    merge, check, ladder = results.merge, results.check, results.ladder
    check_again = this_command("check", "--run", run.called)
    climb = f"make ladder RUN={run.called}"
    is_merged, has_ggufs = "merged" in release.what, bool(release.ggufs)
    for needed, record, what, how in (
        (is_merged, merge, "merge's comparison", f"make merge RUN={run.called}"),
        (has_ggufs, check, "export's check", check_again),
        (is_merged or has_ggufs, ladder, "ladder", climb),
    ):
        if needed and record is None and not ungated:
            yield (
                f"the {what} has not run on these files. Run: {how}; or say --ungated to publish "
                "with a card that says so"
            )
        elif needed and record is not None and (fault := fault_of(record, release)):
            yield (
                f"the {what} did not pass ({PurePosixPath(record.target).name}: {fault}), and a "
                f"model that failed is not published. Correct it, then run: {how}"
            )
    for name in unchecked(release):
        yield f"{name} has changed since the export's check, or has none. Run: {check_again}"
    if ladder is not None:
        measured = {rung.get("label"): rung.get("content") for rung in ladder.at("rungs")}
        for label in sorted(release.labels):
            # the files of a base that is gone prove nothing, nor do they prove the contrary
            if not measured.get(label) or digests[label] not in (None, measured[label]):
                yield f"the ladder has not run on these files ({label}). Run: {climb}"
    yield from modelfile_problems(release, check_again)


def result_problems(release: Release, digests: Digests) -> Iterator[str]:
    """Why the run's results say nothing of the weights in it, each with what to do."""
    run, results = release.run, release.results
    merge_again = f"remove it and merge again: make merge RUN={run.called}"
    adapter = digest(model_files(run.adapter), release.sha256_of)
    trained = results.manifest and results.manifest.at("adapter")
    if trained and adapter not in (None, trained):
        yield (
            f"{run.adapter} is not the adapter that training left there, and the manifest's "
            "results are of that one; put it back, or publish this one from a folder of its own"
        )
    if results.merge is not None:
        compared = results.merge.at("fingerprint")
        if compared != digests["merged"]:
            yield (
                f"{run.merged} has changed since it was compared with the adapter (weights, "
                f"configuration or tokenizer); {merge_again}"
            )
        if adapter not in (None, results.merge.at("source", "adapter")):
            yield (
                f"{run.merged} was merged from another adapter than {run.adapter}; {merge_again}"
            )
        if results.check and results.check.at("model", "fingerprint") != compared:
            yield (
                f"the GGUF files were made from other merged weights than {run.merged}; make them "
                f"again: make gguf RUN={run.called}"
            )
    for evaluation in results.evaluations:
        label, measured = evaluation.at("label"), evaluation.at("subject", "model", "content")
        if label and measured and digests[label] not in (None, measured):
            yield (
                f"{run.eval / PurePosixPath(evaluation.target).name} was measured on other weights "
                f"of {label} than those here; remove it and evaluate again: "
                f"make eval RUN={run.called}, or make ladder RUN={run.called}"
            )


def _files_of(label: str, release: Release) -> list[Path]:
    """The files that the replies of a model depend on, as the evaluator digests them."""
    run, base = release.run, release.base
    if label == "merged":
        folder = run.merged if run.merged.is_dir() else run.root
        return model_files(folder) if (folder / "config.json").is_file() else []
    if label == "base":
        return model_files(base.folder, tokenizer=run.adapter) if base.folder else []
    if label == "tuned":
        # a base of the Hub has no files of its own here; of a folder that is gone, who knows
        below = base.folder or (Path(base.hub_id) if base.hub_id else None)
        return model_files(below, run.adapter) if below and run.adapter.is_dir() else []
    files = (folder / f"{label}.gguf" for folder in (run.gguf, run.root))
    file = next((path for path in files if path.is_file()), None)
    return model_files(file, tokenizer=run.adapter) if file else []

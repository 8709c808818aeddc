"""What speaks against publishing weights: gates that did not pass, results of other weights.

A gate that failed always refuses.  A gate that never ran refuses too, unless the user says
`--ungated`; then the card says that nothing was checked.

A result is found by its name (`eval/merged.json`, a rung of the ladder), and the weights of that
name may have been replaced since.  So a result holds the digest of what it was measured on, and
that must be the digest of the files that lie here now.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from rich.console import Console

from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_rewards.errors import this_command
from xmlgrpo_run.digests import digest, hash_ahead, model_digest, model_files

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
    return {label: digest(found) for label, found in files.items()}


def gate_problems(release: Release, digests: Digests, *, ungated: bool) -> list[str]:
    """Why the gates forbid these files, each reason with what to do.

    GGUF files need the export's check and the ladder, merged weights the merge's comparison with
    the adapter and the ladder; an adapter is what training wrote and needs none.  A ladder
    counts for the files whose digest its rungs name, the adapter's too, and for no others.
    """
    run, results = release.run, release.results
    check = this_command("check", "--run", run.called)
    ladder = f"make ladder RUN={run.called}"
    problems = []
    merge = results.merge and results.merge.part("parity")
    for needed, gate, what, how in (
        ("merged" in release.what, merge, "the merge's comparison", f"make merge RUN={run.called}"),
        (release.ggufs, results.check, "the export's check", check),
        ("merged" in release.what or release.ggufs, results.ladder, "the ladder", ladder),
    ):
        if needed and gate is None and not ungated:
            problems.append(
                f"{what} has not run on these files. Run: {how}; or say --ungated to publish "
                "with a card that says so"
            )
        elif needed and gate is not None and gate.at("passed") is not True:
            problems.append(
                f"{what} did not pass ({PurePosixPath(gate.target).name}), and a model that "
                f"failed is not published. Correct it, then run: {how}"
            )
    if results.check is not None:
        problems += [
            f"{file.target} has changed since the export's check. Run: {check}"
            for file in release.files
            if file.target in release.ggufs
            and results.check.at("files", file.target, "sha256") != file.sha256
        ]
    if results.ladder is not None:
        measured = {rung.get("label"): rung.get("content") for rung in results.ladder.at("rungs")}
        problems += [
            f"the ladder has not run on these files ({label}). Run: {ladder}"
            for label in sorted(release.labels)
            # the files of a base that is gone prove nothing, nor do they prove the contrary
            if not measured.get(label) or digests[label] not in (None, measured[label])
        ]
    return problems


def result_problems(release: Release, digests: Digests) -> list[str]:
    """Why the run's results say nothing of the weights in it, each with what to do."""
    run, results = release.run, release.results
    adapter = model_digest(run.adapter)
    trained = results.manifest and results.manifest.at("adapter")
    problems = []
    if trained and adapter not in (None, trained):
        problems.append(
            f"{run.adapter} is not the adapter that training left there, and the manifest's "
            "results are that one's; put it back, or publish this one from a folder of its own"
        )
    if results.merge is not None:
        merge = f"make merge RUN={run.called}"
        if results.merge.at("fingerprint") != digests["merged"]:
            problems.append(
                f"{run.merged} has changed since it was compared with the adapter (weights, "
                f"configuration or tokenizer); remove it and merge again: {merge}"
            )
        if adapter not in (None, results.merge.at("source", "adapter")):
            problems.append(
                f"{run.merged} was merged from another adapter than {run.adapter}; remove it and "
                f"merge again: {merge}"
            )
        checked = results.check and results.check.at("model", "fingerprint")
        if checked and checked != results.merge.at("fingerprint"):
            problems.append(
                f"the GGUF files were made from other merged weights than {run.merged}; make them "
                f"again: make gguf RUN={run.called}"
            )
    problems += [
        f"{run.eval / PurePosixPath(evaluation.target).name} was measured on other weights of "
        f"{label} than those here; remove it and evaluate again: make eval RUN={run.called}, or "
        f"make ladder RUN={run.called}"
        for evaluation in results.evaluations
        if (label := evaluation.at("label"))
        and (measured := evaluation.at("subject", "model", "content"))
        and digests[label] not in (None, measured)
    ]
    return problems


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

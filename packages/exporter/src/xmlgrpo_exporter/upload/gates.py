"""The gates of export and ladder: what they said about the very files that are published.

A gate that failed always refuses.  A gate that never ran refuses too, unless the user says
`--ungated`; then the card says that nothing was checked.
"""

from collections.abc import Callable, Iterable

from xmlgrpo_exporter.card.figures import ResultFile, escape_pointer
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.upload.files import PlannedFile
from xmlgrpo_rewards.errors import this_command
from xmlgrpo_run.folder import RunFolder


def gate_problems(
    run: RunFolder,
    results: RunResults,
    files: Iterable[PlannedFile],
    content: Callable[[str], str | None],
    *,
    ungated: bool,
) -> tuple[str, ...]:
    """Why the gates forbid these files, each reason with what to do; empty when they may go.

    GGUF files need the export's check and the ladder, merged weights the merge's comparison with
    the adapter and the ladder; an adapter is what training wrote and needs none.  A ladder
    counts for the files whose content its rungs name, the adapter's too, and for no others.

    Args:
        run: the run, or a folder of files.
        results: what the run recorded.
        files: what is to be published.
        content: the digest of the model under a label as it lies here; None where nobody can tell.
        ungated: a gate that never ran does not refuse.
    """
    files = tuple(files)
    weights = {file.target: file.sha256 for file in files if file.kind == "weights"}
    gguf = {name: sha256 for name, sha256 in weights.items() if name.endswith(".gguf")}
    merged = any(name.startswith("model") and "/" not in name for name in weights)
    climb = f"make ladder RUN={run.called}"
    check = this_command("check", "--run", run.called)
    problems = []
    for needed, gate, what, how in (
        (merged, results.merge, "the merge's comparison", f"make merge RUN={run.called}"),
        (bool(gguf), results.check, "the export's check", check),
        (bool(gguf) or merged, results.ladder, "the ladder", climb),
    ):
        if needed and gate is None and not ungated:
            problems.append(
                f"{what} has not run on these files. Run: {how}; or say --ungated to publish "
                "with a card that says so"
            )
        elif needed and gate is not None and _passed(gate) is not True:
            problems.append(
                f"{what} did not pass ({gate.published.rpartition('/')[2]}), and a model that "
                f"failed is not published. Correct it, then run: {how}"
            )
    problems += [
        f"{name} has changed since the export's check. Run: {check}"
        for name, sha256 in gguf.items()
        if results.check is not None and not _was_checked(results.check, name, sha256)
    ]
    if results.ladder is not None:
        unclimbed = _unclimbed(results.ladder, published_labels(weights), content)
        problems += [
            f"the ladder has not run on these files ({label}). Run: {climb}" for label in unclimbed
        ]
    return tuple(problems)


def published_labels(targets: Iterable[str]) -> tuple[str, ...]:
    """The ladder's labels of what is published under these targets."""
    labels = set()
    for target in targets:
        folder, _, name = target.rpartition("/")
        if name.endswith(".gguf"):
            labels.add(name.removesuffix(".gguf"))
        elif name == "adapter_model.safetensors":
            labels.add("tuned")
        elif name.endswith(".safetensors"):
            labels.add(folder or "merged")
    return tuple(sorted(labels))


def _unclimbed(
    ladder: ResultFile, labels: Iterable[str], content: Callable[[str], str | None]
) -> list[str]:
    """The labels that no rung was measured on, or that have changed since."""
    measured = {str(rung.get("label")): rung.get("content") for rung in ladder.at("/rungs") or ()}
    missing = []
    for label in labels:
        here = content(label)
        # the files of a base that is gone prove nothing, nor do they prove the contrary
        changed = here is not None and here != measured.get(label)
        if not measured.get(label) or changed:
            missing.append(label)
    return missing


def _passed(gate: ResultFile) -> object:
    """Its verdict; the merge's stands in its one gate."""
    return gate.at("/parity/passed") if gate.at("/parity") is not None else gate.at("/passed")


def _was_checked(check: ResultFile, name: str, sha256: str) -> bool:
    return bool(check.at(f"/files/{escape_pointer(name)}/sha256") == sha256)

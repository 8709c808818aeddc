"""The gates of export and ladder: what they said about the very files that are published.

A gate that failed always refuses.  A gate that never ran refuses too, unless the user says
`--ungated`; then the card says that nothing was checked.
"""

from collections.abc import Iterable

from xmlgrpo_exporter.figures import ResultFile, escape_pointer
from xmlgrpo_exporter.run_results import RunResults
from xmlgrpo_exporter.upload_plan import PlannedFile


def gate_problems(
    results: RunResults, files: Iterable[PlannedFile], *, ungated: bool
) -> tuple[str, ...]:
    """Why the gates forbid these files, each reason with what to do; empty when they may go.

    GGUF files need the export's check and the ladder, merged weights the merge's comparison with
    the adapter and the ladder; an adapter is what training wrote and needs none.

    Args:
        results: what the run recorded.
        files: what is to be published.
        ungated: a gate that never ran does not refuse.
    """
    weights = {file.target: file.sha256 for file in files if file.kind == "weights"}
    gguf = {name: sha256 for name, sha256 in weights.items() if name.endswith(".gguf")}
    merged = any(name.startswith("model") and "/" not in name for name in weights)
    problems = []
    for needed, gate, what, how in (
        (merged, results.merge, "the merge's comparison", "make merge RUN=…"),
        (bool(gguf), results.check, "the export's check", "xmlgrpo-export check --run …"),
        (bool(gguf) or merged, results.ladder, "the ladder", "make ladder RUN=…"),
    ):
        if needed and gate is None and not ungated:
            problems.append(
                f"{what} has not run on these files. Run: {how}; or say --ungated to publish "
                "with a card that says so"
            )
        elif needed and gate is not None and _passed(gate) is not True:
            problems.append(
                f"{what} did not pass ({gate.published.rpartition('/')[2]}), and a model that "
                f"failed is not published. Mend it, then run: {how}"
            )
    problems += [
        f"{name} has changed since the export's check. Run: xmlgrpo-export check --run …"
        for name, sha256 in gguf.items()
        if results.check is not None and not _was_checked(results.check, name, sha256)
    ]
    climbed = [name.removesuffix(".gguf") for name in gguf] + ["merged"] * merged
    problems += [
        f"the ladder has no result of {label}. Run: make ladder RUN=…"
        for label in climbed
        if results.ladder is not None and label not in _labels(results.ladder)
    ]
    return tuple(problems)


def _passed(gate: ResultFile) -> object:
    """Its verdict; the merge's stands in its one gate."""
    return gate.at("/parity/passed") if gate.at("/parity") is not None else gate.at("/passed")


def _was_checked(check: ResultFile, name: str, sha256: str) -> bool:
    return bool(check.at(f"/files/{escape_pointer(name)}/sha256") == sha256)


def _labels(ladder: ResultFile) -> set[object]:
    return {rung.get("label") for rung in ladder.at("/rungs") or ()}

"""The gates of export and ladder: what they said about the very files that are published.

A gate that failed always refuses.  A gate that never ran refuses too, unless the user says
`--ungated`; then the card says that nothing was checked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.figures import ResultFile, read_result
from xmlgrpo_exporter.upload_plan import PlannedFile

CHECK, LADDER = "results/gguf-check.json", "results/ladder.json"


@dataclass(frozen=True, slots=True)
class Gates:
    """What the gates said.

    Attributes:
        check: the export's gate, if it ran.
        ladder: the ladder's gate, if it ran.
        problems: why the upload must not happen, each with what to do; empty when all passed.
    """

    check: ResultFile | None
    ladder: ResultFile | None
    problems: tuple[str, ...]


def read_gates(root: Path, gguf_folder: Path | None) -> tuple[ResultFile | None, ResultFile | None]:
    """The results of the export's check and of the ladder, where they ran."""
    check = (gguf_folder or root / "gguf") / "check.json"
    ladder = root / "ladder.json"
    return (
        read_result(check, CHECK) if check.is_file() else None,
        read_result(ladder, LADDER) if ladder.is_file() else None,
    )


def judge(
    check: ResultFile | None,
    ladder: ResultFile | None,
    files: Iterable[PlannedFile],
    *,
    ungated: bool,
) -> Gates:
    """Whether the gates let these files go.

    GGUF files need the export's check and the ladder, merged weights the ladder; an adapter is
    what training wrote and needs neither.

    Args:
        check: the export's gate.
        ladder: the ladder's gate.
        files: what is to be published.
        ungated: a gate that never ran does not refuse.
    """
    weights = {file.target: file.sha256 for file in files if file.kind == "weights"}
    gguf = {name: sha256 for name, sha256 in weights.items() if name.endswith(".gguf")}
    merged = any("/" not in name and name.startswith("model") for name in weights)
    problems = []
    for needed, gate, what, how in (
        (bool(gguf), check, "the export's check", "xmlgrpo-export check"),
        (bool(gguf) or merged, ladder, "the ladder", "make ladder RUN=…"),
    ):
        if gate is None and needed and not ungated:
            problems.append(
                f"{what} has not been run on these files: {how}, or --ungated to publish with a "
                "card that says so"
            )
        elif gate is not None and needed and gate.at("/passed") is not True:
            problems.append(
                f"{what} did not pass (see {Path(gate.published).name}); a model that failed is "
                f"not published. Mend it, then: {how}"
            )
    for name, sha256 in gguf.items():
        checked = _checked_sha256(check, name)
        if checked is not None and checked != sha256:
            problems.append(f"{name} has changed since it was checked: xmlgrpo-export check")
    return Gates(check, ladder, tuple(problems))


def _checked_sha256(check: ResultFile | None, name: str) -> str | None:
    value = check.at(f"/files/{name}/sha256") if check is not None else None
    return value if isinstance(value, str) else None

"""Verdicts: of one gate, of one file, and `check.json`, which keeps those of a folder's files.

Its `passed` speaks for all of them, and `files.NAME.sha256` says which bytes were checked.  A file
that is gone takes its entry along.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from xmlgrpo_exporter.quants import PINNED
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.files import read_sealed, write_sealed
from xmlgrpo_run.folder import CHECK_RECORD
from xmlgrpo_run.screen.say import say

EXIT_GATE_FAILED = 3
FORMAT = 1
ANSWER_CHARS = 200


@dataclass(frozen=True, slots=True)
class Gate:
    """One check with its numbers, its limits, and a sentence when it fails."""

    name: str
    passed: bool
    found: dict[str, Any] = field(default_factory=dict)  # the numbers measured
    limit: dict[str, Any] = field(default_factory=dict)  # what they may be
    why: str = ""  # what is wrong and what to do; empty when passed

    def as_json(self) -> dict[str, Any]:
        """For check.json; the name is the key there."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def numbers(self) -> str:
        """What was measured, in one line: `mean_kl=1.2e-07, top1=0.999`."""
        return ", ".join(f"{key}={_shown(value)}" for key, value in self.found.items())


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file's verdict."""

    file: str  # its name
    quant: str
    size_bytes: int
    sha256: str
    gates: tuple[Gate, ...]  # those that were asked
    answer: str = ""  # to the first question; empty when it was not asked
    limits: Mapping[str, float] = field(default_factory=dict)  # the user's, not those of its type
    modelfile: str = ""  # the text that asks it in Ollama as training asked
    mtime_ns: int = 0  # a file whose size and time stay is not hashed again

    @property
    def passed(self) -> bool:
        """Whether there were gates, and each let it through."""
        return bool(self.gates) and all(gate.passed for gate in self.gates)

    def as_json(self) -> dict[str, Any]:
        """For check.json; the file's name is the key there."""
        return {
            "passed": self.passed,
            "quant": self.quant,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "mtime_ns": self.mtime_ns,
            "gates": {gate.name: gate.as_json() for gate in self.gates},
            "answer": self.answer,
            "limits": dict(self.limits),
            "modelfile_sha256": sha256(self.modelfile.encode()).hexdigest(),
        }


def read_check(folder: Path) -> dict[str, Any]:
    """The folder's record; empty when there is none or it is of another format."""
    path = folder / CHECK_RECORD
    stored = read_sealed(path) if os.path.lexists(path) else {}
    return stored if stored.get("format") == FORMAT else {}


def write_check(
    folder: Path,
    compared_with: dict[str, Any],
    checks: Sequence[FileCheck],
    *,
    source: FileCheck | None = None,
) -> Path:
    """Add verdicts to the folder's record, which is the file that is returned.

    Args:
        compared_with: what `Reference.as_json` says; entries of another model are dropped.
        checks: the verdicts; a rejected file's entry stands until the next record.
        source: of the file that others are quantized from, which is not kept; the last one stands.
    """
    stored = read_check(folder)
    fingerprint = compared_with["model"]["fingerprint"]
    kept = {}
    checked_source = source.as_json() if source else None
    if stored.get("model", {}).get("fingerprint") == fingerprint:
        checked_source = checked_source or stored.get("source")
        kept = {name: old for name, old in stored["files"].items() if (folder / name).is_file()}
    files = {**kept, **{check.file: check.as_json() for check in checks}}
    sources = [checked_source] if checked_source else []
    record = {
        "format": FORMAT,
        "passed": bool(files) and all(entry["passed"] for entry in (*files.values(), *sources)),
        **compared_with,
        "llama_cpp_python": PINNED,
        "source": checked_source,
        "files": files,
    }
    write_sealed(folder / CHECK_RECORD, record)
    return folder / CHECK_RECORD


def show_check(check: FileCheck, console: Console) -> None:
    """A line per gate, and the file's answer to the first question."""
    for gate in check.gates:
        verdict = "[green]pass[/]" if gate.passed else "[bold red]FAIL[/]"
        words = Text(gate.numbers() if gate.passed else gate.why)
        say(console, words, head=f"  {verdict} {gate.name:9} ")
    if check.answer:
        say(console, Text(one_line(check.answer, ANSWER_CHARS)), head="  answer: ")

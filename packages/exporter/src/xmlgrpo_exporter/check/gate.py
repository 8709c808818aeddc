"""A gate: one check with its numbers, its limits, and a sentence when it fails."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

EXIT_GATE_FAILED = 3


@dataclass(frozen=True, slots=True)
class Gate:
    """One check.

    Attributes:
        name: a short word: "tokens", "one_bos", "distance" and so on.
        passed: whether it let the file through.
        found: the numbers measured.
        limit: the numbers they are held against.
        why: empty when passed; else what is wrong and what to do.
    """

    name: str
    passed: bool
    found: dict[str, Any] = field(default_factory=dict)
    limit: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """For check.json; the name is the key there."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def numbers(self) -> str:
        """What was found, in one line: `mean_kl=1.2e-07, top1=0.999`."""
        return ", ".join(f"{key}={_shown(value)}" for key, value in self.found.items())


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def all_passed(gates: Iterable[Gate]) -> bool:
    """Whether there were gates, and each let the file through."""
    outcomes = [gate.passed for gate in gates]
    return bool(outcomes) and all(outcomes)

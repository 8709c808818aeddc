"""Which engine answered an evaluation, and when two evaluations may not be mixed for it.

In float32 the `graph` engine and lm-eval's own call of `generate` write the same greedy replies.
In 16 bits each rounds in its own places, and `graph` adds an adapter to the weights first, so that
a near tie between two tokens may fall to the other one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

ENGINES = ("auto", "generate", "graph")
BEFORE_ENGINES = "generate"
"""What answered an HF model in results and journals that name no engine."""
_FULL_PRECISION = "float32"


@dataclass(frozen=True, slots=True)
class EngineUse:
    """What answers some requests.

    Attributes:
        name: `graph`, or `generate` for lm-eval's own call.
        reason: why, in a few words.
        at_once: replies written side by side; `auto` where lm-eval tries it out.
    """

    name: Literal["graph", "generate"]
    reason: str
    at_once: int | str

    def __str__(self) -> str:
        whose = "lm-eval's own generate" if self.name == "generate" else f"the {self.name} engine"
        return f"replies by {whose}, {self.at_once} at once: {self.reason}"


def may_stand_for(answered: Collection[str], asked: str) -> bool:
    """Whether what the engines `answered` wrote may be taken where `asked` is asked for now.

    `auto` takes any: a finished result stays one.
    """
    return asked == "auto" or set(answered) <= {asked}


def engine_caution(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """What to say where two results of HF models mix engines; None where they do not."""
    engines = [engines_of(first), engines_of(second)]
    if not all(engines) or engines[0] == engines[1]:
        return None
    if all(_number_type(result) == _FULL_PRECISION for result in (first, second)):
        return None
    told = [
        f"{result['label']} by {' and '.join(sorted(names))}"
        + ("" if result.get("engines") else " (it names no engine, so lm-eval's own)")
        for result, names in zip((first, second), engines, strict=True)
    ]
    return (
        f"{told[0]}, {told[1]}: two engines round differently in 16 bits, and near ties may turn; "
        "evaluate both with the same --engine"
    )


def engines_of(result: Mapping[str, Any]) -> set[str]:
    """What answered, of an HF model's result; empty for other backends and without a reply."""
    if result.get("backend") != "hf":
        return set()
    named = result.get("engines")
    return set(named["answered"]) if named else {BEFORE_ENGINES}


def _number_type(result: Mapping[str, Any]) -> str:
    return str((result.get("model") or {}).get("model_dtype")).removeprefix("torch.")

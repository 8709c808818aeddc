"""What a check found, in words; the doctor's vocabulary."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "bad"]

# where a threshold comes from
AXOLOTL = "axolotl, docs/training_stability.qmd"
JUDGEMENT = "judgement"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: "note" needs nothing; "warning" may; "bad" does.
        what: the subject, in a word or two.
        said: what was found, with its number and the threshold.
        advice: what to do; empty where there is nothing to do.
        grounds: where the threshold comes from; empty without one.
    """

    level: Level
    what: str
    said: str
    advice: str = ""
    grounds: str = ""

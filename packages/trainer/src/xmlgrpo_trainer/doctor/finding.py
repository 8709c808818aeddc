"""One thing that the doctor has looked at, and how it is shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["ok", "note", "warning", "bad"]
COLOURS = {"ok": "green", "note": "dim", "warning": "yellow", "bad": "bold red"}

JUDGEMENT = "judgement"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level  # "note" needs nothing; "warning" may; "bad" does
    what: str  # the subject, in a word or two
    text: str  # what it is like, with its number and the threshold
    advice: str = ""  # what to do, if anything
    grounds: str = ""  # where the threshold is from, if there is one
    row: str = ""  # which of the checks of a run it is, for `watch.stop_when`


def show(title: str, findings: Iterable[Finding], console: "Console") -> Iterator[Finding]:
    """Print each finding as soon as it is made, with what to do below it.

    Yields:
        The findings, printed.
    """
    from rich.text import Text

    from xmlgrpo_run.screen.say import say

    say(console, Text(title, style="bold"))
    for finding in findings:
        level = Text.assemble("  ", (f"{finding.level:8}", COLOURS[finding.level]))
        grounds = f" ({finding.grounds})" if finding.grounds else ""
        text = Text.assemble(finding.text, (grounds, "dim"))
        say(console, text, head=level.append(f"{finding.what:17} "))
        if finding.advice:
            say(console, Text(finding.advice), head=" " * (len(level) - 1) + " -> ")
        yield finding

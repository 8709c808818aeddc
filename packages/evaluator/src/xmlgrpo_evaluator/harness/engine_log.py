"""What answers an HF model's requests, noted as it is decided."""

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_evaluator.harness.journal import Journal
from xmlgrpo_evaluator.setup.engines import EngineUse
from xmlgrpo_run.screen.say import say


class EngineLog:
    """Takes note of what answers an evaluation: on the screen, in its journal, for its result.

    Args:
        asked: `auto`, `generate` or `graph`.
        journal: of the evaluation.
        console: where each kind of answer is told once.

    Attributes:
        engine: what to ask for.  `auto` goes on with lm-eval's own call where that wrote all the
            replies of an earlier start.
    """

    def __init__(self, asked: str, journal: Journal, console: Console) -> None:
        self._asked, self._journal, self._console = asked, journal, console
        self._continued = asked == "auto" and journal.engines == {"generate"}
        self.engine = "generate" if self._continued else asked
        self._uses: dict[tuple[str, str], EngineUse] = {}

    @property
    def at_once(self) -> int | str | None:
        """Replies written side by side; None where nothing was asked."""
        return next((use.at_once for use in self._uses.values()), None)

    def heard(self, use: EngineUse) -> None:
        """Take note of what answers the replies that follow."""
        if self._continued:
            use = replace(use, reason="it wrote the replies that are kept")
        self._journal.note_engine(use.name)
        if (use.name, use.reason) not in self._uses:
            self._uses[use.name, use.reason] = use
            say(self._console, escape(str(use)))

    def record(self) -> dict[str, Any]:
        """For the result: what was asked, what answered (earlier starts included) and why."""
        return {
            "asked": self._asked,
            "answered": sorted(self._journal.engines),
            "why": [use.reason for use in self._uses.values()],
        }

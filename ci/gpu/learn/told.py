"""What the experiment leaves: a JSON file, written again after every stage, and lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.problems.exam import HoldoutResult

SHARES = {
    "lenient_accuracy": "lenient_correct",
    "strict_accuracy": "strict_correct",
    "strict_format": "strict_format",
    "worked": "worked",
    "truncated": "truncated",
}
IN_THE_TABLE = ("lenient_accuracy", "strict_accuracy", "worked")
REPLIES = 3  # kept of each result


class Report:
    """The JSON file and the screen.

    Args:
        path: of the file; what it held is replaced.
        head: what is known before the first stage.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self.told: dict[str, Any] = {**head, "seconds": {}, "finished": False}
        self.started = time.perf_counter()

    def add(self, name: str, value: Any) -> None:
        """Keep a result."""
        self.told[name] = value
        write_json(self.path, self.told)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Say that a stage begins, and keep how long it took."""
        self.say(f"{name} ...")
        since = time.perf_counter()
        yield
        self.add("seconds", {**self.told["seconds"], name: round(time.perf_counter() - since, 1)})

    def say(self, text: str) -> None:
        """One line on the screen, with the seconds so far."""
        print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", flush=True)

    def end(self) -> None:
        """Mark the file as finished and print the table."""
        self.told["seconds"]["all"] = round(time.perf_counter() - self.started, 1)
        self.add("finished", value=True)
        print(f"{'':40}" + "".join(f"{column:>24}" for column in IN_THE_TABLE))
        for name in self.told["before"]:
            for when in ("before", "after"):
                shares = self.told[when][name]
                cells = "".join(f"{shares[column]['shown']:>24}" for column in IN_THE_TABLE)
                print(f"{name if when == 'before' else '':33}{when:7}{cells}", flush=True)


def told(result: HoldoutResult) -> dict[str, Any]:
    """A result for the report: hits, totals, Wilson's 95 % intervals, and a few replies."""
    described: dict[str, Any] = {}
    for name, field in SHARES.items():
        share = result.share(field)
        described[name] = {
            "hits": share.hits,
            "total": share.total,
            "low": round(share.low, 4),
            "high": round(share.high, 4),
            "shown": str(share),
        }
    described["mean_tokens"] = result.metrics()["mean_tokens"]
    described["replies"] = [
        {"question": item.question, "gold": item.gold, "reply": item.reply}
        for item in result.items[:REPLIES]
    ]
    return described

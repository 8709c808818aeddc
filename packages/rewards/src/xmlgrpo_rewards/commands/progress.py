"""What a command says while it goes through many things."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from xmlgrpo_rewards.prose import printable

LINES_EVERY_S = 5.0
_Thing = TypeVar("_Thing")


def with_progress(
    things: Iterable[_Thing], name: str, unit: str, count: Callable[[], int]
) -> Iterator[_Thing]:
    """The same things; from five seconds on, a line every five shows how many are done."""
    began_s = spoke_s = time.monotonic()
    total = None
    for done, thing in enumerate(things):
        now_s = time.monotonic()
        if done and now_s - spoke_s >= LINES_EVERY_S:
            total = total or count()
            rate, spoke_s = done / (now_s - began_s), now_s
            left = timedelta(seconds=round((total - done) / rate))
            pace = f"{rate:,.0f}/s" if rate >= 1 else f"{1 / rate:,.0f} s each"
            print(f"{printable(name)}  {done:,}/{total:,} {unit}  {pace}  left {left}", flush=True)
        yield thing

"""What the user can correct is one clear sentence; everything else is a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can correct: a wrong key, a missing file, a bad row, a full disk.

    The message says what was expected, what was given (`!r` for values) and what to do.
    """


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'seed'?` where a known name is near; empty where none is."""
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""

"""What the user can correct is one clear sentence; everything else is a traceback."""

import os
import sys
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


def is_output_lost() -> bool:
    """Whether what is printed cannot be written any more."""
    try:
        number = sys.stdout.fileno()
    except ValueError:  # not a file, or closed
        return False
    try:
        sys.stdout.flush()  # what could not be written is still in the buffer
        os.write(number, b"")
    except OSError:
        return True
    return False

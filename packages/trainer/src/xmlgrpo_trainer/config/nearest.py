"""A hint for a name that does not exist: the nearest one that does."""

import difflib


def nearest(name: str, known: list[str]) -> str:
    """A hint in words: the nearest known name, or all of them when none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""

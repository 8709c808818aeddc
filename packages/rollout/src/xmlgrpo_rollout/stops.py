"""Where a completion ends."""

from collections.abc import Collection, Sequence


def cut_after_stop(tokens: Sequence[int], stop_ids: Collection[int]) -> list[int]:
    """The tokens up to and with the first stop token; all of them where there is none."""
    for place, token in enumerate(tokens):
        if token in stop_ids:
            return list(tokens[: place + 1])
    return list(tokens)

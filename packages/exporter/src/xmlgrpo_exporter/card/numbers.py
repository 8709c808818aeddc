"""Numbers on the card: each is a link to the file, and the place in it, that it was read from.

The template calls these functions; the finished card is searched for numbers outside such links
(`loose_numbers`).
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import one_line

NAME_COLUMNS = 200
NOT_RECORDED = "*not recorded*"
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,.]*(?:e[-+]?\d+)?(?![\w.])", re.IGNORECASE)

# What is not read as a statement: code (commands and names), links.
_NOT_PROSE = (
    re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"!?\[[^\[\]]*\]\([^()\s]*\)"),
)


def number(
    file: ResultFile,
    show: Callable[[Any], str],
    *steps: str | int,
    missing: str = NOT_RECORDED,
) -> str:
    """The number at a place in a file, printed by `show`, as a link to the place (RFC 6901, 6).

    Raises:
        UserError: what stands there is not of the kind that `show` prints.
    """
    value = file.at(*steps)
    if value is None:
        return missing
    place = (str(step) for step in (*file.place, *steps))
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in place)
    try:
        text = show(value)
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{file.target}: {one_line(repr(value), NAME_COLUMNS)} at {pointer} is nothing that a "
            "command here writes; run the one that writes this file again"
        ) from None
    return link(text, file.target, pointer)


def link(text: str, target: str, pointer: str = "") -> str:
    """A link to a published file, or to a place in it, unless that is called by a whole text."""
    place = f"#{quote(pointer, safe='/~')}" if 0 < len(pointer) <= NAME_COLUMNS else ""
    return f"[{text}]({quote(target)}{place})"


def name(file: ResultFile, *steps: str, missing: str = NOT_RECORDED) -> str:
    """The words at a place of a file, as code."""
    value = file.at(*steps)
    return code(value) if isinstance(value, str) and value.strip() else missing


def code(text: str) -> str:
    """What a thing is called, in a code span: one line, unable to end the span or a table cell.

    What is all digits is put in quotes, so that it is no number.
    """
    line = one_line(text, NAME_COLUMNS).replace("`", "'").replace("|", "/")
    return f'`"{line}"`' if NUMBER.fullmatch(line) else f"`{line}`"


def loose_numbers(card: str) -> list[str]:
    """The numbers in a card's prose that are not the text of a link to a file."""
    for not_prose in _NOT_PROSE:
        card = not_prose.sub(" ", card)
    return NUMBER.findall(card)


def metric(value: Mapping[str, Any]) -> str:
    """A share as `61.2% (58.5 to 63.8) of 1,319`, a mean as `118.5 (110.2 to 120.1)`."""
    if "hits" not in value:
        return f"{value['mean']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
    share = Share(value["hits"], value["total"] if "total" in value else value["n"])
    return f"{share.value:.1%} ({100 * share.low:.1f} to {100 * share.high:.1f}) of {share.total:,}"


def change(value: Mapping[str, Any]) -> str:
    """A difference of means with its interval: `-21.0 (-26.2 to -15.8)`."""
    return f"{value['value']:+.4g} ({value['low']:+.4g} to {value['high']:+.4g})"


def points(value: Mapping[str, Any]) -> str:
    """A difference of shares with its interval: `+54.0 (+48.0 to +60.0) points`."""
    middle, low, high = (100 * value[key] for key in ("value", "low", "high"))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f}) points"


def p_value(value: float) -> str:
    """0.0312 as `0.031`, 3e-9 as `3.0e-09`."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def count(value: float) -> str:
    """1319 as `1,319`."""
    return f"{value:,}"


def setting(value: float) -> str:
    """A setting as it was written: `0.04`, `5e-06`, `true`."""
    return json.dumps(value) if isinstance(value, bool) else f"{value:g}"


def verdict(value: bool) -> str:  # noqa: FBT001  it is the value to print, not a switch
    """A gate's outcome: `passed` or `failed`."""
    return "passed" if value else "failed"

"""The scripts and styles that stand in every page, and what its security policy says of them."""

import base64
import json
import re
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from xmlgrpo_rewards.prose import printable

HERE = Path(__file__).parent
SCRIPTS = ("uplot/uPlot.iife.min.js", "page.js")
STYLES = ("uplot/uPlot.min.css", "page.css")
SMALL_NUMBER = re.compile(r"[\d.]+e-\d+")


def environment() -> Environment:
    """The templates, by room and name: what they write is escaped, and steers nothing."""
    made = Environment(
        loader=PackageLoader("xmlgrpo_viewer", ""),
        autoescape=True,
        trim_blocks=True,
        finalize=_printable,
    )
    made.filters["whole"] = _whole
    # what the page runs, in order, how it looks, and the sources of scripts that its security
    # policy lets run: these, by their hashes, alone
    made.globals["scripts"] = [Markup(_text(name)) for name in SCRIPTS]  # noqa: S704 - our own files
    made.globals["styles"] = Markup("".join(map(_text, STYLES)))  # noqa: S704 - our own files
    made.globals["script_hashes"] = " ".join(map(_policy_hash, SCRIPTS))
    return made


def _printable(value: Any) -> Any:
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if is_text else value


def _whole(text: Any) -> Markup:
    """A text whose numbers stay on one line: a browser would break 4.3e-07 at its minus sign."""
    escaped = str(escape(_printable(text)))
    return Markup(SMALL_NUMBER.sub(r'<span class="whole">\g<0></span>', escaped))  # noqa: S704


def json_in_html(value: Any) -> Markup:
    """JSON inside a script element: no `<` in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no markup is left in it


@cache
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _policy_hash(name: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(_text(name).encode()).digest()).decode()}'"

"""A card read by somebody who distrusts it: every number on it, followed to the published files.

The arithmetic is done anew, from the formulas and not with the package's code.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from math import sqrt
from typing import Any
from urllib.parse import unquote

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)#\s]+)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]*)`")
SCALES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
Z_95 = 1.959963984540054


def body(card: str) -> str:
    """The card without front matter and code blocks."""
    return FENCED.sub("", card.split("\n---\n", 1)[-1])


def linked_numbers(card: str) -> list[tuple[str, str, str]]:
    """The card's figures: text, file, JSON pointer."""
    return [
        (text, unquote(file), unquote(pointer))
        for text, file, pointer in LINK.findall(body(card))
        if re.search(r"\d|passed|failed|true|false", text) and not file.startswith("https://")
    ]


def untraced(card: str, files: Mapping[str, bytes]) -> list[str]:
    """The numbers on a card that are not in the file they name, or name none.

    Args:
        card: its text.
        files: what was published, by path.
    """
    wrong = [
        f"{text} is not {file}#{pointer}"
        for text, file, pointer in linked_numbers(card)
        if file not in files or not _is_there(text, files[file], pointer)
    ]
    text = LINK.sub("", body(card))
    said = "\n".join(_known_words(files))
    wrong += [
        f"`{span}` is in no file"
        for span in SPAN.findall(text)
        if re.search(r"\d", span) and span.strip('"') not in said
    ]
    return wrong + re.findall(r"(?<!\w)[-+−]?\d\S*", SPAN.sub("", text))


def value_at(content: bytes, pointer: str) -> Any:
    """The value at a JSON pointer."""
    value = json.loads(content)
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def agrees(text: str, value: Any) -> bool:
    """Whether every number in a printed figure is this value's, to the digits printed."""
    if isinstance(value, bool):
        return text in (("passed", "true") if value else ("failed", "false"))
    printed = NUMBER.findall(text)
    expected = _numbers_of(value, text)
    return len(printed) == len(expected) and all(map(_rounds_to, expected, printed))


def _is_there(text: str, content: bytes, pointer: str) -> bool:
    if not pointer:
        return agrees(text, len(content))  # a size, linked to the very file
    try:
        return agrees(text, value_at(content, pointer))
    except (KeyError, IndexError, ValueError):
        return False


def _numbers_of(value: Any, text: str) -> list[float]:
    if not isinstance(value, dict):
        return [value / SCALES.get(text.rpartition(" ")[2], 1)]
    if "hits" in value:
        total = value["total"] if "total" in value else value["n"]
        return [100 * x for x in _wilson(value["hits"], total)] + [total]
    if "mean" in value:
        return [value["mean"], value["low"], value["high"]]
    scale = 100 if text.endswith("points") else 1
    return [scale * value[key] for key in ("value", "low", "high")]


def _wilson(hits: int, total: int) -> list[float]:
    """A share and its 95 % interval (Wilson 1927)."""
    share, square = hits / total, Z_95**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = Z_95 * sqrt(share * (1 - share) / total + square / (4 * total**2))
    half /= 1 + square / total
    return [share, middle - half, middle + half]


def _rounds_to(value: float, printed: str) -> bool:
    mantissa, _, exponent = printed.replace(",", "").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(printed.replace(",", "")) - value) <= 0.5000001 * unit


def _known_words(files: Mapping[str, bytes]) -> list[str]:
    """Names that the published files know: each other's, their hashes, and the results' words."""
    words = [f"{path}\nsha256:{hashlib.sha256(files[path]).hexdigest()}" for path in files]
    for path, content in files.items():
        if path.startswith("results/") and path.endswith(".json"):
            words += _strings(json.loads(content))
    return words


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [word for item in value for word in _strings(item)]
    if isinstance(value, dict):
        pairs = [f"{key}=={item}" for key, item in value.items() if isinstance(item, str)]
        keys = [f"{key} {key}.gguf" for key in value]
        keys += [
            f"{key}.{sub}" for key, item in value.items() if isinstance(item, dict) for sub in item
        ]
        return [*pairs, *keys, *(word for item in value.values() for word in _strings(item))]
    return []

"""docs/pictures/engine.svg: a decoded token and a training step, from one profile.

    python -m ci.remake.engine_picture

Every length and number is of docs/measured/step-profile-h200.json, as torch's profiler gave it.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "docs" / "measured" / "step-profile-h200.json"
PICTURE = ROOT / "docs" / "pictures" / "engine.svg"
WIDTH, LEFT, BAR, ROW = 1000, 20, 34, 112
NARROWEST = 7.0  # pixels a letter: what has no room for its words is told below the bar
# what each kernel of a token is, by its name; of equal names in the order of a layer
DECODED = {
    "nvjet_sm90_tst_64x16": ("q, k, v", "#4c78a8"),
    "_store_token": ("norm, turn, store", "#72b7b2"),
    "_attend_split": ("attention", "#f58518"),
    "_combine_splits": ("combine splits", "#ffbf79"),
    "_split_product": ("out, down", "#54a24b"),
    "_add_norm": ("add, norm", "#b279a2"),
    "_gate_up": ("gate, up, activation", "#9ecae9"),
    "nvjet_sm90_tst_512x64": ("head", "#e45756"),
    "_blocks": ("draw", "#9d755d"),
}
IDLE, OTHER = "#d8d8d8", "#bab0ac"
HEAD_PARTS = 8  # the logits are made in so many: products called as often are the head's


class Piece(NamedTuple):
    """A part of a bar."""

    words: str
    size: float
    colour: str


def token_pieces(decode: Mapping[str, Any]) -> list[Piece]:
    """Microseconds of one token, all layers together."""
    pieces: dict[str, Piece] = {}
    for kernel in decode["kernels"]:
        words, colour = _named(kernel["name"])
        before = pieces.get(words, Piece(words, 0.0, colour))
        pieces[words] = before._replace(size=before.size + kernel["us"])
    ordered = [pieces.pop(words) for words, _ in DECODED.values()]
    waits = Piece("between kernels", decode["token_span_us"] - decode["token_busy_us"], IDLE)
    return [*ordered, *pieces.values(), waits]


def layer_pieces(decode: Mapping[str, Any]) -> list[Piece]:
    """Microseconds of one layer, in the order in which its kernels run."""
    return [Piece(*_with(kernel["us"], kernel["name"])) for kernel in decode["layer_in_order"]]


def step_pieces(step: Mapping[str, Any]) -> list[Piece]:
    """Milliseconds of a profiled step: what the GPU did, and how long nothing."""
    busy = dict(step["busy_by_stage_ms"])
    pieces = [
        Piece("completions", busy.pop("complete"), "#4c78a8"),
        Piece("forward", busy.pop("forward"), "#f58518"),
        Piece("backward", busy.pop("backward"), "#e45756"),
        Piece("all else", sum(busy.values()), OTHER),
    ]
    idle = step["step_ms"] - sum(piece.size for piece in pieces)
    return [*pieces, Piece("idle", idle, IDLE)]


def training_pieces(step: Mapping[str, Any]) -> list[Piece]:
    """Milliseconds of the forward and backward pass by kind of kernel."""
    colours = dict(
        zip(
            ("products of the layers", "head", "norms", "activation", "attention"),
            ("#54a24b", "#e45756", "#b279a2", "#9ecae9", "#f58518"),
            strict=True,
        )
    )
    sizes = dict.fromkeys([*colours, "sums and copies"], 0.0)
    for kernel in step["training_kernels"]:
        if kernel["stage"] != "refresh":
            sizes[_kind(kernel["name"], kernel["count"])] += kernel["ms"]
    return [Piece(kind, size, colours.get(kind, OTHER)) for kind, size in sizes.items()]


def _kind(name: str, count: float) -> str:
    by_name = {
        "rms_norm": "norms",
        "geglu": "activation",
        "flash": "attention",
        "_differentiate": "head",
        "_reduce": "head",
    }
    found = next((kind for part, kind in by_name.items() if part in name), None)
    if "nvjet" in name or "splitKreduce" in name:
        return "head" if count == HEAD_PARTS else "products of the layers"
    is_torchs = "at::native" in name
    return "sums and copies" if is_torchs or found is None else found


def _named(name: str) -> tuple[str, str]:
    return next(
        (told for start, told in DECODED.items() if name.startswith(start)), ("rest", OTHER)
    )


def _with(size: float, name: str) -> tuple[str, float, str]:
    words, colour = _named(name)
    return words, size, colour


def bar(top: int, title: str, pieces: Sequence[Piece], unit: str) -> list[str]:
    """One bar with its title; each piece's words in it, or below it where it is too narrow."""
    whole = sum(piece.size for piece in pieces)
    lines = [f'<text x="{LEFT}" y="{top - 8}" class="title">{escape(title)}</text>']
    at, below = float(LEFT), []
    for piece in pieces:
        width = piece.size / whole * (WIDTH - 2 * LEFT)
        told = f"{piece.words} {piece.size:.{0 if piece.size >= 20 else 1}f}"
        lines.append(
            f'<rect x="{at:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" '
            f'fill="{piece.colour}"><title>{escape(told)} {unit}</title></rect>'
        )
        if width >= NARROWEST * len(told):
            middle = at + width / 2
            lines.append(f'<text x="{middle:.1f}" y="{top + 21}" class="in">{escape(told)}</text>')
        else:
            below.append((piece.colour, told))
        at += width
    at, line = float(LEFT), top + BAR + 8
    for colour, told in below:
        width = 13 + NARROWEST * (len(told) + 2)
        if at + width > WIDTH:
            at, line = float(LEFT), line + 17
        lines.append(f'<rect x="{at:.1f}" y="{line}" width="9" height="9" fill="{colour}"/>')
        lines.append(f'<text x="{at + 13:.1f}" y="{line + 9}">{escape(told)}</text>')
        at += width
    return lines


def picture(profile: Mapping[str, Any]) -> str:
    """The whole SVG."""
    decode, step = profile["decode"], profile["step"]
    rows, span = profile["rows"], decode["token_span_us"]
    bars = [
        (
            f"One token of {rows} completions, all layers: {span:,.0f} us",
            token_pieces(decode),
            "us",
        ),
        ("One layer of it, kernel by kernel (us)", layer_pieces(decode), "us"),
        (
            f"A step while it is profiled: {step['step_ms']:,.0f} ms on the GPU",
            step_pieces(step),
            "ms",
        ),
        ("Its forward and backward pass by what is computed (ms)", training_pieces(step), "ms"),
    ]
    lines = [
        line
        for number, (title, pieces, unit) in enumerate(bars)
        for line in bar(36 + number * ROW, title, pieces, unit)
    ]
    height = 36 + len(bars) * ROW - 20
    style = "text{font:12px sans-serif}.title{font-weight:bold}.in{text-anchor:middle}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    return "\n".join([head, f"<style>{style}</style>", ground, *lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(json.loads(PROFILE.read_text(encoding="utf-8"))), encoding="utf-8")

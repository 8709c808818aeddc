"""What changed over the steps of a run: the panels of `curves.png` and of the report.

One definition for both.  Nothing is imported to draw with: the caller brings a figure of
matplotlib's and the colours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from xmlgrpo_rewards.task import Words
from xmlgrpo_run.screen.metric_names import metric_names

Rows = Sequence[Mapping[str, Any]]
Points = list[tuple[int, float]]

COLUMNS = 2
PANEL_INCHES = (5.5, 3.3)
SAME = 0.03  # lines this near to each other, as a share of the panel's height, are drawn as one
LEGEND_CHARACTERS = 56  # of a row of it; a wider one leaves no room for the panel
HANDLE_CHARACTERS = 6  # what the short line before a label takes


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel."""

    key: str  # of the metric in a logged step
    label: str  # what it is called
    heavy: bool = False  # drawn in the colour of text, wider than the others


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines with one axis; `is_share` for values from 0 to 1."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours: of text and axes, of the grid, and of the lines in their order."""

    text: str = "#1a1a1a"
    grid: str = "#dddddd"
    lines: tuple[str, ...] = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def panels(rows: Rows, words: Words) -> list[Panel]:
    """The panels that these steps have something for.

    Args:
        rows: the merged rows of `metrics.jsonl`, in step order; keys may be missing or null.
    """
    found = (_with_points(panel, rows) for panel in _all_panels(rows, words))
    return [panel for panel in found if panel.lines]


def draw(figure: Any, rows: Rows, drawn: Sequence[Panel], ink: Ink) -> None:
    """Draw panels, two side by side, each with its legend below it.

    Args:
        figure: matplotlib's, with the layout `constrained`; it gets the size that is needed.
    """
    lines = -(-len(drawn) // COLUMNS)
    figure.set_size_inches(COLUMNS * PANEL_INCHES[0], lines * PANEL_INCHES[1])
    places = figure.subplots(lines, COLUMNS, squeeze=False).flat
    for place, panel in zip(places, drawn, strict=False):
        _draw_panel(place, panel, rows, ink)
    for place in list(figure.axes)[len(drawn) :]:
        place.set_axis_off()


def _all_panels(rows: Rows, words: Words) -> list[Panel]:
    names = metric_names(words)
    asked = ("strict_format", "worked", "lenient_accuracy", "strict_accuracy")
    sampled = ("strict_format", "worked", "lenient", "strict")
    named = [(key, short) for key, short in zip(asked, sampled, strict=True) if key in names]
    return [
        Panel(
            "Reward of sampled completions",
            "mean per completion",
            (
                *(Line(key, reward_name(key)) for key in _reward_means(rows)),
                Line("reward", "weighted sum", heavy=True),
            ),
        ),
        Panel(
            "Validation problems, answered greedily",
            "share",
            tuple(Line(f"validation/{key}", names[key].full) for key, _ in named),
            is_share=True,
        ),
        Panel(
            "Sampled completions",
            "share",
            tuple(Line(f"sampled/{short}", names[key].full) for key, short in named),
            is_share=True,
        ),
        Panel(
            "What teaches nothing",
            "share",
            (
                Line("frac_reward_zero_std", "groups with equal rewards"),
                Line("completions/clipped_ratio", "completions cut at the limit"),
            ),
            is_share=True,
        ),
        Panel("Completion length", "tokens", (Line("completions/mean_length", "mean of a step"),)),
        Panel("Entropy", "nats per token", (Line("entropy", "of the policy's draws"),)),
        Panel("Gradient norm", "before clipping", (Line("grad_norm", "of a step"),)),
        Panel("Distance from the base", "KL, nats per token", (Line("kl", "mean of a step"),)),
    ]


def reward_name(key: str) -> str:
    """`rewards/strict_format_reward_func/mean` is `strict format`, `my.module:fits` is `fits`."""
    name = key.removeprefix("rewards/").removesuffix("/mean").rpartition(":")[2]
    return name.removesuffix("_reward_func").replace("_", " ")


def _reward_means(rows: Rows) -> list[str]:
    keys = {key for row in rows for key in row}
    return sorted(key for key in keys if key.startswith("rewards/") and key.endswith("/mean"))


def _with_points(panel: Panel, rows: Rows) -> Panel:
    lines = tuple(line for line in panel.lines if _points(line.key, rows))
    return Panel(panel.title, panel.unit, lines, is_share=panel.is_share)


def _points(key: str, rows: Rows) -> Points:
    return [(row["step"], row[key]) for row in rows if _is_number(row.get(key))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _draw_panel(place: Any, panel: Panel, rows: Rows, ink: Ink) -> None:
    alike = together(
        {line.label: _points(line.key, rows) for line in panel.lines},
        1.0 if panel.is_share else None,
    )
    heavy = {line.label for line in panel.lines if line.heavy}
    colours = iter(ink.lines * len(alike))
    for number, (labels, points) in enumerate(alike):
        is_heavy = not heavy.isdisjoint(labels)
        place.plot(
            *zip(*points, strict=True),
            label=fill(" = ".join(labels), LEGEND_CHARACTERS - HANDLE_CHARACTERS),
            color=ink.text if is_heavy else next(colours),
            linewidth=2.2 if is_heavy else 1.6,
            # what lies on an earlier line for a while lets it be seen
            linestyle=(0, (4, 2)) if number % len(ink.lines) > 2 and not is_heavy else "-",
            marker="o" if len(points) * 4 < max(len(rows), 5) else "",
            markersize=4,
        )
    place.set_title(panel.title, color=ink.text, fontsize=11, loc="left")
    place.set_xlabel("step", color=ink.text, fontsize=9)
    place.set_ylabel(panel.unit, color=ink.text, fontsize=9)
    place.set_facecolor("none")
    place.tick_params(colors=ink.text, labelsize=9)
    place.grid(visible=True, color=ink.grid)
    place.set_axisbelow(True)
    for side, spine in place.spines.items():
        spine.set_color(ink.grid if side in ("top", "right") else ink.text)
    if panel.is_share:
        place.set_ylim(-0.03, 1.03)
    if len(panel.lines) > 1:
        longest = max(len(" = ".join(labels)) for labels, _ in alike)
        place.legend(
            loc="upper left",
            bbox_to_anchor=(0, -0.17),
            ncols=max(1, LEGEND_CHARACTERS // (longest + HANDLE_CHARACTERS)),
            frameon=False,
            labelcolor=ink.text,
            fontsize=9,
        )


def together(
    lines: Mapping[str, Points], height: float | None = None
) -> list[tuple[list[str], Points]]:
    """Lines that one could not tell apart in a panel become one with all their labels.

    Args:
        lines: label -> points, in the order in which they are drawn.
        height: of the panel; None for the range of all values.
    """
    values = [value for points in lines.values() for _, value in points]
    room = height if height is not None else max(values) - min(values)
    found: list[tuple[list[str], Points]] = []
    for label, points in lines.items():
        same = (labels for labels, others in found if _is_near(points, others, SAME * room))
        labels = next(same, None)
        if labels is None:
            found.append(([label], points))
        else:
            labels.append(label)
    return found


def _is_near(one: Iterable[tuple[int, float]], other: Points, distance: float) -> bool:
    others = dict(other)
    pairs = [(value, others.get(step)) for step, value in one]
    return len(pairs) == len(others) and all(
        theirs is not None and abs(value - theirs) <= distance for value, theirs in pairs
    )

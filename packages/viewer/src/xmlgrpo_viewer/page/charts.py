"""What the page draws: each chart as numbers, and the same numbers as a table behind it.

The panels of a run's curves are defined once, in `xmlgrpo_run.screen.curves`; the page adds bands,
stacked reward parts and the time of a step.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any, Literal

from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import printable
from xmlgrpo_run.metrics import MetricsLog
from xmlgrpo_run.screen.curves import panels, reward_name
from xmlgrpo_viewer.reading.run_view import RunView

MOST_POINTS = 600  # drawn of one line; of more steps, each point is a mean
MOST_TABLE_ROWS = 40
REWARD = re.compile("rewards/(.*)/mean")
HELD_OUT = "Validation problems, answered greedily"  # the panel that gets bands here

Points = Sequence[tuple[float, float]]
Kind = Literal["line", "stack", "bars"]


@dataclass(frozen=True, slots=True)
class Series:
    """One line, with its 95 % band where it has one."""

    label: str
    points: Points
    low: Points = ()
    high: Points = ()
    heavy: bool = False  # drawn in the colour of text

    @classmethod
    def of_shares(
        cls, label: str, shares: Sequence[tuple[int, Share]], *, heavy: bool = False
    ) -> "Series":
        """Shares by their steps, with Wilson's intervals as the band."""
        values, low, high = (
            [(step, getattr(share, end)) for step, share in shares]
            for end in ("value", "low", "high")
        )
        return cls(label, values, low, high, heavy)


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis."""

    title: str
    unit: str
    series: tuple[Series, ...]
    kind: Kind = "line"
    is_share: bool = False  # from 0 to 1, shown in percent
    x: str = "step"
    source: str = "metrics.jsonl"  # the file in the run that the numbers are in
    note: str = ""

    @property
    def drawn(self) -> list[Series]:
        """The lines that have a point."""
        return [one for one in self.series if one.points]

    @property
    def xs(self) -> list[float]:
        """Where any line has a point, in order."""
        return sorted({x for one in self.series for x, _ in one.points})


def charts(view: RunView) -> list[Chart]:
    """Every chart that the run has something for, in the order of a reader's questions."""
    tokens = Series("prompts and completions", tokens_per_s(view.log))
    peaks = Series("peak of a step", view.log.series("peak_mib"))
    whose = "MiB, of the GPU where there is one, else of the process"
    found = [
        *(_held_out(view), _reward_parts(view), *_panels(view), _mismatch(view), _time(view)),
        Chart("Tokens", "tokens per second of a step", (tokens,)),
        Chart("Memory", whose, (peaks,)),
        *_lengths(view),
    ]
    return [_thinned(chart) for chart in found if chart.drawn]


def _held_out(view: RunView) -> Chart:
    """Held-out accuracy at each validation with Wilson's interval."""
    named = {
        "strict_accuracy": f"strict accuracy (form and {view.words.answer})",
        "lenient_accuracy": f"lenient accuracy ({view.words.answer}, any form)",
        "strict_format": "strict format",
    }
    series = []
    for metric, label in named.items():
        shares = [(answers.step, answers.share(metric)) for answers in view.validations]
        logged = view.log.series(f"validation/{metric}")  # where the replies themselves are gone
        heavy = metric == "strict_accuracy"
        banded = Series.of_shares(label, shares, heavy=heavy)
        series.append(banded if shares else Series(label, logged, heavy=heavy))
    rounds = view.validations
    asked = f"{len(rounds[-1].items)} validation problems, 95 % band" if rounds else ""
    return Chart(
        "Held-out accuracy",
        f"share of {asked or 'the validation problems'}",
        tuple(series),
        is_share=True,
        source="holdout/" if rounds else "metrics.jsonl",
        note="Answered greedily. They choose the adapter that is kept; the result above is of "
        "other problems.",
    )


def _reward_parts(view: RunView) -> Chart:
    """What a mean completion was paid, by reward, weights applied, one on top of the other."""
    parts = []
    for found in filter(None, map(REWARD.fullmatch, sorted(view.log.names()))):
        key, weight = found[0], view.weights.get(found[1], 1.0)
        points = [(step, weight * value) for step, value in view.log.series(key)]
        if any(value for _, value in points):
            parts.append(Series(reward_name(key), points))
    is_stack = all(value >= 0 for part in parts for _, value in part.points)
    return Chart(
        "Reward by part",
        "mean per completion, weights applied",
        tuple(parts),
        kind="stack" if is_stack else "line",
    )


def _panels(view: RunView) -> Iterator[Chart]:
    """The panels that `curves.png` has too, but for the two that are drawn in more detail here."""
    rows = [{"step": step, **row} for step, row in view.log.rows.items()]
    for panel in panels(rows, view.words):
        if panel.title != HELD_OUT and not panel.title.startswith("Reward"):
            lines = tuple(
                Series(line.label, view.log.series(line.key), heavy=line.heavy)
                for line in panel.lines
            )
            yield Chart(panel.title, panel.unit, lines, is_share=panel.is_share)


def _mismatch(view: RunView) -> Chart:
    names = {
        "sampling/sampling_logp_difference/mean": "mean difference",
        "sampling/sampling_logp_difference/max": "farthest token",
    }
    lines = tuple(Series(label, view.log.series(key)) for key, label in names.items())
    return Chart(
        "Engine against policy",
        "nats per token",
        lines,
        note="How far the log-probabilities of the engine that drew the completions are from "
        "those of the policy that learns.",
    )


def _time(view: RunView) -> Chart:
    whole, drawn = view.log.series("step_time"), dict(view.log.series("rollout_time"))
    if not drawn:
        return Chart("Time of a step", "seconds", (Series("whole step", whole),))
    parts = (
        Series("completions drawn", [(step, drawn.get(step, 0.0)) for step, _ in whole]),
        Series(
            "rewards and update",
            [(step, max(0.0, value - drawn.get(step, 0.0))) for step, value in whole],
        ),
    )
    return Chart("Time of a step", "seconds", parts, kind="stack")


def tokens_per_s(log: MetricsLog) -> list[tuple[int, float]]:
    """(step, tokens of prompts and completions a second), from trl's running count of them."""
    seconds, counts = dict(log.series("step_time")), log.series("num_tokens")
    return [
        (step, (count - before) / seconds[step])
        for (_, before), (step, count) in pairwise(counts)
        if seconds.get(step) and count > before
    ]


def _lengths(view: RunView) -> Iterator[Chart]:
    """How long held-out replies are before and after: shares in equal bins of tokens."""
    groups = {
        label: [item.tokens for item in side.items]
        for label, side in (("before", view.before), ("after", view.after))
        if side
    }
    longest = max((tokens for group in groups.values() for tokens in group), default=0)
    if not longest:
        return
    width = max(1, math.ceil((longest + 1) / 24))
    bins = range(0, longest + 1 + width, width)  # the last one is empty, and ends the one before
    yield Chart(
        "Length of held-out replies",
        f"share of the replies, bins of {width} token{'s' if width > 1 else ''}",
        tuple(
            Series(
                label,
                [
                    (start, sum(start <= n < start + width for n in group) / len(group))
                    for start in bins
                ],
            )
            for label, group in groups.items()
            if group
        ),
        kind="bars",
        is_share=True,
        x="tokens",
        source="holdout/",
    )


def _thinned(chart: Chart) -> Chart:
    """The same with at most `MOST_POINTS` points a line, each the mean of a stretch of steps.

    All lines have the same stretches, also where one of them has no value at some steps.
    """
    xs = chart.xs
    if len(xs) <= MOST_POINTS:
        return chart
    every = math.ceil(len(xs) / MOST_POINTS)
    ends = {x: xs[min(n - n % every + every, len(xs)) - 1] for n, x in enumerate(xs)}

    def thin(points: Points) -> Points:
        parts = groupby(points, lambda point: ends[point[0]])
        return [(end, fmean(value for _, value in part)) for end, part in parts]

    lines = tuple(
        Series(one.label, thin(one.points), thin(one.low), thin(one.high), one.heavy)
        for one in chart.series
    )
    note = f"{chart.note} Each point is the mean of {every} steps.".strip()
    return replace(chart, series=lines, note=note)


def for_uplot(chart: Chart) -> dict[str, Any]:
    """What `page.js` draws: one x axis, and a column of values for each line and band end."""
    xs, is_stack = chart.xs, chart.kind == "stack"

    def column(points: Points) -> list[float | None]:
        values = dict(points)
        return [None if (value := values.get(x)) is None else float(f"{value:.5g}") for x in xs]

    below: Points = [(x, 0.0) for x in xs]
    lines = []
    for one in chart.drawn:
        own = dict(one.points)
        below = [(x, under + own.get(x, 0.0)) for x, under in below]
        line: dict[str, Any] = {"label": printable(one.label), "heavy": one.heavy}
        line["values"] = column(below if is_stack else one.points)
        line |= {"own": column(one.points)} if is_stack else {}
        line |= {"low": column(one.low), "high": column(one.high)} if one.low else {}
        lines.append(line)
    return {"kind": chart.kind, "share": chart.is_share, "x": chart.x, "xs": xs, "lines": lines}


def table(chart: Chart) -> list[list[str]]:
    """The chart as rows of text, the head first; of many steps, rows spread over them."""
    written = ("{:.1%}" if chart.is_share else "{:.4g}").format
    rows = [[chart.x, *(one.label for one in chart.drawn)]]
    for x in _spread(chart.xs, MOST_TABLE_ROWS):
        cells = []
        for one in chart.drawn:
            value, low, high = (dict(part).get(x) for part in (one.points, one.low, one.high))
            text = "" if value is None else written(value)
            band = low is not None and high is not None
            cells.append(f"{text} [{written(low)}, {written(high)}]" if band else text)
        rows.append([f"{x:g}", *cells])
    return rows


def _spread(xs: Sequence[float], most: int) -> Iterable[float]:
    every = math.ceil(len(xs) / most) if xs else 1
    return xs if every == 1 else [*xs[:-1:every], xs[-1]]

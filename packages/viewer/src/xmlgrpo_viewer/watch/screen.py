"""One screen about a run: the doctor's words, held-out accuracy, the newest steps, some replies.

It fits a terminal of 80 by 24; a larger one shows more of the problems.
"""

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.screen.curves import reward_name
from xmlgrpo_run.screen.progress import clock
from xmlgrpo_trainer.doctor.finding import COLOURS
from xmlgrpo_viewer.page.charts import tokens_per_s
from xmlgrpo_viewer.page.summary import findings, left_s
from xmlgrpo_viewer.reading.paid import Paid
from xmlgrpo_viewer.reading.run_view import RunView
from xmlgrpo_viewer.reading.same_problems import followed

BLOCKS = "▁▂▃▄▅▆▇█"
NEWEST = 10  # steps that "now" is the mean of
FINDINGS_SHOWN = 3
LOW_ROWS = 32  # below it readings stand side by side where they can, so that all has room
TWO_COLUMNS = 76
MARKS = {"right": "✓", "right, other form": "~", "wrong": "✗"}
MOST_MARKS = 12  # of the newest validations
LEAVE = "(Ctrl-C leaves)"
PACE = {
    "step_time": "{:.2f} s a step",
    "rollout_time": "{:.2f} of it for completions",
    "peak_mib": "peak {:,.0f} MiB",
}
# key in a logged step -> what it is called, and how it is written
READINGS = {
    "reward": ("reward", "{:.2f}"),
    "sampled/strict": ("right, in form", "{:.0%}"),
    "sampled/lenient": ("right, any form", "{:.0%}"),
    "frac_reward_zero_std": ("groups alike", "{:.0%}"),
    "completions/clipped_ratio": ("cut at the limit", "{:.0%}"),
    "completions/mean_length": ("tokens a reply", "{:.0f}"),
    "entropy": ("entropy, nats", "{:.3f}"),
    "grad_norm": ("gradient norm", "{:.3f}"),
    "sampling/sampling_logp_difference/mean": ("engine mismatch", "{:.4f}"),
}


def screen(view: RunView, columns: int, rows: int, paid: Paid | None = None) -> RenderableType:
    """What is drawn of a run.

    Args:
        paid: what its completions were paid for, where that is known.
    """
    parts: list[RenderableType] = [_head(view, columns)]
    if paid and paid.is_often:
        parts.append(Text(one_line(f"wrong answers are paid: {paid}", columns), style="bold red"))
    found = findings(view)
    for one in [one for one in found if one.level in ("bad", "warning")][:FINDINGS_SHOWN]:
        words = one_line(f"{one.what}: {one.text}", columns - 2)
        parts.append(Text(words, style=COLOURS[one.level]))
    if len(parts) == 1 and any(one.level == "ok" for one in found):
        parts.append(Text("the doctor finds nothing wrong", style="green"))
    parts += [Text(), *_held_out(view, columns), *_readings(view, columns, rows)]
    parts += [Text(one_line(words, columns), style="dim") for words in _words(view) if words]
    return Group(*parts, *_problems(view, columns, rows - 2 - len(parts)))


def _head(view: RunView, columns: int) -> Text:
    left = left_s(view)
    words = f"{view.run.name}  {view.state}  {view.progress}"
    if left is not None and view.state == "training":
        words += f"  left {clock(left)}"
    if times := view.times:
        words += f"  newest at {datetime.fromtimestamp(times[-1][1]):%H:%M:%S}"
    elif view.state == "training":  # minutes, as of a tiny model's warm start: the clock goes
        words += f"  no step yet at {datetime.now():%H:%M:%S}"
    how = f" {LEAVE}" if view.state == "training" else ""
    return Text.assemble((one_line(words, columns - len(how)), "bold"), (how, "dim"))


def _held_out(view: RunView, columns: int) -> Iterator[Text]:
    """Accuracy at each validation, as a line and in numbers with intervals."""
    if not view.validations:
        logged = [f"{value:.1%}" for _, value in view.log.series("validation/strict_accuracy")]
        words = f"{logged[0]} to {logged[-1]}" if logged else "no validation yet"
        yield Text(f"held out: {words}", style="" if logged else "dim")
        return
    for name, label in (
        ("strict_correct", "right, in form"),
        ("lenient_correct", "right, any form"),
    ):
        shares = [answers.share(name) for answers in view.validations]
        steps = f" at {view.validations[-1].step}" if columns >= TWO_COLUMNS else ""
        numbers = f" {shares[0].value:.1%} to {shares[-1]}{steps}"
        room = max(4, columns - 28 - len(numbers))
        line = sparkline([share.value for share in shares], room, low=0.0, high=1.0)
        yield Text.assemble(f"held out {label:16}", (line, "cyan"), numbers)


def _readings(view: RunView, columns: int, rows: int) -> list[Text]:
    """The newest steps: name, mean of the last ones, and the whole way there, a line each or two.

    Of two columns the first one is read down, then the second.
    """
    side_by_side = 2 if rows < LOW_ROWS and columns >= TWO_COLUMNS else 1
    width = columns // side_by_side
    cells = []
    for key, (label, form) in READINGS.items():
        if points := view.log.series(key):
            low, top = (0.0, 1.0) if form.endswith("%}") else (None, None)
            line = sparkline([value for _, value in points], max(4, width - 28), low=low, high=top)
            number = f"{form.format(_now(points)):>7}"
            cells.append(Text.assemble(f"{label:16} {number}  ", (line, "cyan")))
    down = -(-len(cells) // side_by_side)
    for left, right in zip(cells, cells[down:], strict=False):
        left.pad_right(width - left.cell_len)
        left.append_text(right)
    return cells[:down]


def _words(view: RunView) -> tuple[str, str]:
    """What the newest steps took, and what they were paid for, a line each."""
    pace = [
        form.format(now) for key, form in PACE.items() if (now := _now(view.log.series(key))) != 0
    ]
    if tokens := _now(tokens_per_s(view.log)):
        pace.append(f"{tokens:,.0f} tokens/s")
    paid = [
        f"{reward_name(name)} {weight * _now(points):.2f}"
        for name, weight in view.weights.items()
        if (points := view.log.series(f"rewards/{name}/mean"))
    ]
    return ", ".join(pace), f"paid {', '.join(paid)}" if paid else ""


def _now(points: Sequence[tuple[int, float]]) -> float:
    """The mean of the newest values; 0 of none."""
    newest = [value for _, value in points[-NEWEST:]]
    return sum(newest) / len(newest) if newest else 0.0


def _problems(view: RunView, columns: int, room: int) -> Iterator[Text]:
    """The same validation problems all the time: the newest reply, how each validation ended."""
    problems = followed(view)[: (room - 1) // 2]
    if problems and room >= 3:
        yield Text()
        for one in problems:
            newest = one.answers[-1]
            ends = "".join(MARKS[answer.outcome] for answer in one.answers)[-MOST_MARKS:]
            ends += f" {newest.outcome}"
            asked = one_line(f"asked   {newest.question} (gold {newest.gold})", columns)
            yield Text(asked, style="dim")
            mark = "green" if newest.strict_correct else "red"
            replied = one_line(f"replied {newest.reply}", columns - len(ends) - 2)
            yield Text.assemble(replied, ("  " + ends, mark))


def sparkline(
    values: Sequence[float], columns: int, *, low: float | None = None, high: float | None = None
) -> str:
    """Values as a line of blocks, each the mean of a stretch; the newest at the right end."""
    if not values:
        return ""
    count = min(columns, len(values))
    edges = [round(n * len(values) / count) for n in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    bottom = min(means) if low is None else low
    top = max(means) if high is None else high
    scale = (len(BLOCKS) - 1) / (top - bottom) if top > bottom else 0.0
    return "".join(BLOCKS[min(len(BLOCKS) - 1, max(0, round((v - bottom) * scale)))] for v in means)


def plain_line(view: RunView) -> str:
    """The same in one line, for a pipe."""
    words = [f"{view.run.name}: {view.state}, {view.progress}"]
    for key in ("reward", "sampled/strict"):
        if points := view.log.series(key):
            label, form = READINGS[key]
            words.append(f"{label} {form.format(_now(points))}")
    if view.validations:
        newest = view.validations[-1]
        words.append(f"held out {newest.share('strict_correct')} at step {newest.step}")
    return escape(", ".join(words))

"""Two results on the same items: the paired table, and which items changed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_evaluator.results.identity import plain
from xmlgrpo_evaluator.results.paired import Difference, mean_difference, pair
from xmlgrpo_evaluator.results.result import COUNTS, HEADLINE
from xmlgrpo_evaluator.setup.engines import engine_caution
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.screen.say import say

COMPARISON_FORMAT = 1
_EXAMPLE_COLUMNS = 400
NOT_OF_THE_MODEL = (
    *("limit", "seed", "k", "max_new_tokens", "chat_template", "data", "format_version"),
    "harness",
)


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two results, task by task and item by item.

    Args:
        first: the result to start from, as `read_result` gives it.
        second: the result to judge.

    Returns:
        For every task and metric both values, their paired difference with interval, and for
        right-or-wrong metrics the exact McNemar p; and the items whose accuracy changed.  JSON
        values.

    Raises:
        UserError: they have no task in common, or not the same items.
    """
    common = [name for name in first["tasks"] if name in second["tasks"]]
    if not common:
        raise UserError(
            f"the two results have no task in common: {', '.join(first['tasks'])} and "
            f"{', '.join(second['tasks'])}"
        )
    compared: dict[str, Any] = plain(
        {
            "format": COMPARISON_FORMAT,
            "first": first["label"],
            "second": second["label"],
            "cautions": _cautions(first, second),
            "tasks": {
                name: _compare_task(name, first["tasks"][name], second["tasks"][name])
                for name in common
            },
        }
    )
    return compared


def _compare_task(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    before, after = first["items"], second["items"]
    if [(i["id"], i["question"]) for i in before] != [(i["id"], i["question"]) for i in after]:
        raise UserError(
            f"{name}: the two results are not of the same items ({len(before)} and {len(after)}); "
            "evaluate both with the same --data and --limit"
        )
    metrics = {
        metric: _compare_metric(
            [item["scores"][metric] for item in before],
            [item["scores"][metric] for item in after],
            first["metrics"][metric],
            second["metrics"][metric],
        )
        for metric in first["metrics"]
        if metric in second["metrics"]
    }
    judged = HEADLINE if HEADLINE in metrics else next(iter(metrics), None)
    return {
        "items": len(before),
        "judged_by": judged,
        "metrics": metrics,
        "gained": _flips(before, after, judged, up=True),
        "lost": _flips(before, after, judged, up=False),
    }


def _compare_metric(
    before: Sequence[float],
    after: Sequence[float],
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> dict[str, Any]:
    compared: dict[str, Any] = {"first": first, "second": second}
    if "hits" in first and "hits" in second:
        table = pair([value == 1 for value in before], [value == 1 for value in after])
        return compared | {
            "difference": asdict(table.difference),
            "p": table.p_value,
            "table": asdict(table),
        }
    return compared | {"difference": asdict(mean_difference(before, after)), "p": None}


def _flips(
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
    metric: str | None,
    *,
    up: bool,
) -> list[dict[str, Any]]:
    """The items that one of the two got right and the other did not, with both replies."""
    if metric is None:
        return []
    return [
        {
            "id": a["id"],
            "question": a["question"],
            "gold": a["gold"],
            "first": a["replies"][0] if a["replies"] else "",
            "second": b["replies"][0] if b["replies"] else "",
        }
        for a, b in zip(before, after, strict=True)
        if (b["scores"][metric] - a["scores"][metric] > 0) == up
        and b["scores"][metric] != a["scores"][metric]
    ]


def _cautions(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What makes the two less than comparable."""
    found = []
    one, other = first["subject"], second["subject"]
    differing = [key for key in NOT_OF_THE_MODEL if one.get(key) != other.get(key)]
    if differing:
        found.append(f"the two were evaluated with another {', '.join(differing)}")
    digests = [(r["prompts"] or {}).get("digest") for r in (first, second)]
    if None not in digests and digests[0] != digests[1]:
        found.append("their prompts are not equal token for token")
    found += [
        f"the prompts of {result['label']} are not those of training"
        for result in (first, second)
        if result["prompts"] and not result["prompts"]["passed"]
    ]
    mixed = engine_caution(first, second)
    return found if mixed is None else [*found, mixed]


# on the screen


def show(compared: Mapping[str, Any], console: Console, *, examples: int = 2) -> None:
    """Print a comparison: the table of every task, then a few items that changed."""
    for name, task in compared["tasks"].items():
        say(console, Text(f"{name}: {task['items']} items", style="bold"))
        table = _table(task, compared, with_intervals=True)
        if not fits(table, console):
            table = _table(task, compared, with_intervals=False)
        console.print(table)
        _show_verdict(task, compared, console)
        for way, flips in (("gained", task["gained"]), ("lost", task["lost"])):
            for flip in flips[:examples]:
                _show_flip(way, flip, compared, console)
    for caution in compared["cautions"]:
        say(console, escape(caution), head="[bold red]caution[/] ")


def fits(table: Table, console: Console) -> bool:
    """Whether the screen is wide enough for all of a table's cells."""
    endless = console.options.update_width(10_000)
    return console.measure(table, options=endless).maximum <= console.width


def _table(task: Mapping[str, Any], compared: Mapping[str, Any], *, with_intervals: bool) -> Table:
    """The values of both; their own intervals only where there is room, the difference's always."""
    rows = [list(map(escape, row)) for row in table_rows(task, with_intervals=with_intervals)]
    table = Table(box=SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    for place, label in enumerate((compared["first"], compared["second"]), start=1):
        widest = max((len(row[place]) for row in rows), default=0)
        table.add_column(escape(label), justify="right", min_width=widest, overflow="fold")
    table.add_column("difference, 95% interval", justify="right", no_wrap=True)
    table.add_column("p (McNemar)" if with_intervals else "p", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def table_rows(task: Mapping[str, Any], *, with_intervals: bool = True) -> list[list[str]]:
    """A compared task as text: metric, both values, difference and p, a row each metric."""
    rows = []
    for metric, row in task["metrics"].items():
        means = [row["first"]["mean"], row["second"]["mean"]]
        is_rate = metric not in COUNTS and all(m is None or 0 <= m <= 1 for m in means)
        rows.append(
            [
                metric,
                _value(row["first"], is_rate=is_rate, with_interval=with_intervals),
                _value(row["second"], is_rate=is_rate, with_interval=with_intervals),
                _gap(row["difference"], is_rate=is_rate),
                "" if row["p"] is None else format_p(row["p"]),
            ]
        )
    return rows


def _show_verdict(task: Mapping[str, Any], compared: Mapping[str, Any], console: Console) -> None:
    row = task["metrics"].get(task["judged_by"])
    if row is None or "table" not in row:
        return
    counts = row["table"]
    say(
        console,
        f"{escape(compared['second'])} gained {counts['only_second']} items and lost "
        f"{counts['only_first']}; {verdict(row)}",
    )


def verdict(row: Mapping[str, Any]) -> str:
    """What a compared share allows one to say, in words."""
    gap, p = row["difference"], row["p"]
    if p >= 0.05:
        return f"no difference is shown (p = {format_p(p)})"
    better = "better" if gap["value"] > 0 else "worse"
    return f"{better} by {abs(gap['value']):.1%} (p = {format_p(p)})"


def format_p(p: float) -> str:
    """A p value for people."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def _value(summary: Mapping[str, Any], *, is_rate: bool, with_interval: bool) -> str:
    if summary["mean"] is None:
        return ""
    if not is_rate:
        return f"{summary['mean']:.1f}"
    if not with_interval:
        return f"{summary['mean']:.1%}"
    return f"{summary['mean']:.1%} [{summary['low']:.1%}, {summary['high']:.1%}]"


def _gap(gap: Mapping[str, Any], *, is_rate: bool) -> str:
    if is_rate:
        return str(Difference(**gap))
    if gap["low"] is None:
        return f"{gap['value']:+.1f}"
    return f"{gap['value']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]"


def _show_flip(
    way: str, flip: Mapping[str, Any], compared: Mapping[str, Any], console: Console
) -> None:
    console.print()
    say(console, f"[bold]{way}[/] {escape(flip['id'])}: {escape(_shown(flip['question']))}")
    say(console, escape(_shown(flip["gold"])), head="  gold: ")
    for label, reply in ((compared["first"], flip["first"]), (compared["second"], flip["second"])):
        say(console, escape(_shown(reply)), head=f"  {escape(label)}: ")


def _shown(text: str) -> str:
    return one_line(text, _EXAMPLE_COLUMNS)

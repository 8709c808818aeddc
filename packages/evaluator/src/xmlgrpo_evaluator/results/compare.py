"""Two results on the same items: the paired table, and which items changed."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_evaluator.identity import in_words, plain
from xmlgrpo_evaluator.results.result import engines_of, main_metric
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.measures.paired import Difference
from xmlgrpo_run.measures.summary import COUNTS, compare_by_steps, compare_items
from xmlgrpo_run.screen.say import say

COMPARISON_FORMAT = 1
SETTINGS = (
    *("limit", "seed", "k", "temperature", "max_new_tokens", "chat_template", "data"),
    *("format_version", "harness"),
)
"""What two evaluations of different models should have in common, by its name in `subject`."""
_EXAMPLE_COLUMNS = 400


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Compare two results, task by task and item by item: second minus first.

    Returns:
        The settings and problems that both have; for every task and metric both values, their
        paired difference with interval, and for right-or-wrong metrics the exact McNemar p; and
        the items whose accuracy changed.  JSON values.

    Raises:
        UserError: they have no task in common, or not the same items.
    """
    common = [name for name in first["tasks"] if name in second["tasks"]]
    if not common:
        raise UserError(
            f"the two results have no task in common: {', '.join(first['tasks'])} and "
            f"{', '.join(second['tasks'])}"
        )
    tasks = {
        name: _compare_task(name, first["tasks"][name], second["tasks"][name]) for name in common
    }
    asked, also = first["subject"], second["subject"]
    compared: dict[str, Any] = plain(
        {
            "format": COMPARISON_FORMAT,
            "first": first["label"],
            "second": second["label"],
            "settings": {
                key: asked.get(key) for key in SETTINGS if asked.get(key) == also.get(key)
            },
            "cautions": _cautions(first, second),
            "tasks": tasks,
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
    metrics = compare_items(before, after)
    judged, row = main_metric({"metrics": metrics}) or (None, {})
    flips: dict[str, list[dict[str, Any]]] = {"gained": [], "lost": []}
    # of several replies to an item the share changes nearly always: no flip
    for one, other in zip(before, after, strict=True) if "table" in row else ():
        change = other["scores"][judged] - one["scores"][judged]
        if change:
            flips["gained" if change > 0 else "lost"].append(_flip(one, other))
    data = first.get("data") if first.get("data") == second.get("data") else None
    return {
        "data": data,
        "items": len(before),
        "judged_by": judged,
        "metrics": metrics,
        "by_steps": compare_by_steps(before, after),
        **flips,
    }


def _flip(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """An item that one of the two got right and the other did not, with both replies."""
    item = {key: first[key] for key in ("id", "question", "gold")}
    replies = {"first": first["replies"][:1], "second": second["replies"][:1]}
    return item | {name: "".join(reply) for name, reply in replies.items()}


def _cautions(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What makes the two less than comparable."""
    found = []
    one, other = first["subject"], second["subject"]
    differing = [in_words(key, one, other) for key in SETTINGS if one.get(key) != other.get(key)]
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


def engine_caution(first: Mapping[str, Any], second: Mapping[str, Any]) -> str | None:
    """The caution where two results of HF models mix engines; None where they do not."""
    engines = [engines_of(first), engines_of(second)]
    types = {str((r.get("model") or {}).get("model_dtype")) for r in (first, second)}
    if not all(engines) or engines[0] == engines[1] or types == {"torch.float32"}:
        return None
    names = [" and ".join(sorted(names)) for names in engines]
    return (
        f"{first['label']} by {names[0]}, {second['label']} by {names[1]}: two engines round "
        "differently in 16 bits, and near ties may turn; evaluate both with the same --engine"
    )


# on the screen


def show(compared: Mapping[str, Any], console: Console, *, examples: int = 2) -> None:
    """Print a comparison: the table of every task, then a few items that changed."""
    for name, task in compared["tasks"].items():
        say(console, Text(f"{name}: {task['items']} items", style="bold"))
        table = _table(task, compared, with_intervals=True)
        if not fits(table, console):
            table = _table(task, compared, with_intervals=False)
        console.print(table)
        row = task["metrics"].get(task["judged_by"])
        if row is not None and "table" in row:
            say(
                console,
                f"{escape(compared['second'])} gained {row['table']['only_second']} items and lost "
                f"{row['table']['only_first']}; {verdict(row)}",
            )
        for way in ("gained", "lost"):
            for flip in task[way][:examples]:
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
    """A compared task as text: metric, both values, difference and p, a row per metric.

    Then a row for each difficulty, of the metric that the task is judged by.
    """
    judged = task["judged_by"]
    by_difficulty = {
        f"of {steps} step{'' if steps == '1' else 's'} ({some[judged]['first']['n']})": some[judged]
        for steps, some in task.get("by_steps", {}).items()
    }
    rows = []
    for metric, row in (task["metrics"] | by_difficulty).items():
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
    interval = f" [{summary['low']:.1%}, {summary['high']:.1%}]" if with_interval else ""
    return f"{summary['mean']:.1%}{interval}"


def _gap(gap: Mapping[str, Any], *, is_rate: bool) -> str:
    if is_rate:
        return str(Difference(**gap))
    interval = "" if gap["low"] is None else f" [{gap['low']:+.1f}, {gap['high']:+.1f}]"
    return f"{gap['value']:+.1f}{interval}"


def _show_flip(
    way: str, flip: Mapping[str, Any], compared: Mapping[str, Any], console: Console
) -> None:
    def shown(text: str) -> str:
        return escape(one_line(text, _EXAMPLE_COLUMNS))

    console.print()
    say(console, f"[bold]{way}[/] {escape(flip['id'])}: {shown(flip['question'])}")
    say(console, shown(flip["gold"]), head="  gold: ")
    for which in ("first", "second"):
        say(console, shown(flip[which]), head=f"  {escape(compared[which])}: ")

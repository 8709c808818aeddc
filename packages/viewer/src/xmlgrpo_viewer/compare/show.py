"""A comparison on the screen and as a page."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from textwrap import fill
from urllib.parse import quote

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_evaluator.results.compare import format_p
from xmlgrpo_rewards.prose import without_paths
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.screen.progress import clock
from xmlgrpo_run.screen.say import say
from xmlgrpo_viewer.compare.compared import Compared, Group, PairOfSides, Side
from xmlgrpo_viewer.page.assets import environment, json_in_html
from xmlgrpo_viewer.page.charts import Chart, Series, for_uplot, table

MOST_NAME_BYTES = 80
# first column of a table -> what the table says, for its caption on the page
DESCRIBED = {
    "run": "Each run, greedy, with Wilson's 95 % interval",
    "seeds of one configuration": "Seeds of one configuration: a bootstrap over seeds and "
    "problems, which is too narrow for a few seeds",
    "pair": "Each pair on the same problems: exact McNemar test, Bonett and Price's interval",
    "setting": "What differs between the configurations",
}


def show(compared: Compared, console: Console) -> None:
    """Print the tables of a comparison."""
    asked = len(compared.sides[0].answers.items)
    say(console, f"[bold]{asked} held-out problems, answered greedily[/]")
    for head, rows in _tables(compared):
        _show_table(head, rows, console)
    for note in compared.notes:
        say(console, escape(note), head="[bold]note[/] ")


def _show_table(head: list[str], rows: list[list[str]], console: Console) -> None:
    """Print a table, no cell but its names on two lines; without room for it, a line per cell."""
    columns = list(zip(head, *rows, strict=True))[1:]
    widths = [max(map(len, (*name.split(), *cells))) for name, *cells in columns]
    endless = console.options.update_width(10_000)
    for names in (head[1:], map(fill, head[1:], widths)):
        shown = Table(head[0], box=SIMPLE_HEAD)
        for name, width in zip(names, widths, strict=True):
            least = max(width, *map(len, name.split("\n")))
            shown.add_column(name, justify="right", no_wrap=True, min_width=least)
        for row in rows:
            shown.add_row(*map(escape, row))
        if console.measure(shown, options=endless).minimum <= console.width:
            console.print(shown)
            return
    for name, *cells in rows:
        say(console, escape(name), head=f"[bold]{head[0]}[/] ")
        for column, cell in zip(head[1:], cells, strict=True):
            if cell:
                say(console, escape(f"{column}: {cell}"), head="  ")


def page(compared: Compared, place: Path) -> str:
    """The comparison as one HTML file that needs nothing beside it.

    Args:
        place: where it is written; links lead from there to each run.
    """
    curves = _curves(compared)
    drawn = [curves] if curves.series else []
    data = {"charts": [for_uplot(chart) for chart in drawn], "completions": []}
    return (
        environment()
        .get_template("compare/compare.html.j2")
        .render(
            names=[run.view.run.name for run in compared.runs],
            described=DESCRIBED,
            asked=len(compared.sides[0].answers.items),
            tables=[
                (head, [[name, *without_paths(cells)] for name, *cells in rows])
                for head, rows in _tables(compared)
            ],
            links={side.name: _link(side, place) for side in compared.sides if side.run},
            notes=without_paths(list(compared.notes)),
            charts=[(chart, table(chart)) for chart in drawn],
            differing=compared.differing,
            data=json_in_html(data),
        )
    )


def _link(side: Side, place: Path) -> str:
    """From the page to a run's report, or to its manifest where none was written."""
    run = side.run.view.run if side.run else RunFolder(place)
    target = run.report if run.report.is_file() else run.manifest
    return quote(os.path.relpath(target.resolve(), place.resolve().parent))


def _tables(compared: Compared) -> Iterator[tuple[list[str], list[list[str]]]]:
    head = ["run", "right in the asked form", "gain per GPU-hour", "GPU-hours", "kWh"]
    rows = [_side(side, compared.sides[0]) for side in compared.sides]
    yield _without_empty_columns([*head, "time in steps"], rows)
    if any(len(group.names) > 1 for group in compared.groups):
        yield (
            ["seeds of one configuration", "mean", "range", "gain over the base, 95%"],
            [_group(group) for group in compared.groups],
        )
    yield (
        ["pair", "gained", "lost", "difference, 95%", "p", "p, Holm"],
        [_pair(one) for one in compared.pairs],
    )
    if compared.differing:
        yield (
            ["setting", *(run.view.run.name for run in compared.runs)],
            [[key, *values] for key, values in compared.differing.items()],
        )


def _without_empty_columns(
    head: list[str], rows: list[list[str]]
) -> tuple[list[str], list[list[str]]]:
    """What no run knows, as GPU-hours on a CPU, is not asked for."""
    kept = [n for n in range(len(head)) if any(row[n] for row in rows)]
    return [head[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _side(side: Side, first: Side) -> list[str]:
    manifest = side.run.manifest if side.run else None
    hours, used_kwh = side.gpu_hours, side.energy_kwh
    gain = 100 * (side.share.value - first.share.value)
    per_hour = gain / hours if hours and first.run is None else None
    return [
        side.name,
        str(side.share),
        "" if per_hour is None else f"{per_hour:+.1f} points",
        "" if hours is None else f"{hours:.3g}",
        "" if used_kwh is None else f"{used_kwh:.3g}",
        clock(manifest.seconds) if manifest else "",
    ]


def _group(group: Group) -> list[str]:
    return [
        ", ".join(group.names),
        f"{group.mean:.1%}",
        f"{group.lowest:.1%} to {group.highest:.1%}",
        "" if group.gain is None else str(group.gain),
    ]


def _pair(one: PairOfSides) -> list[str]:
    return [
        f"{one.first} to {one.second}",
        str(one.table.only_second),
        str(one.table.only_first),
        str(one.difference),
        format_p(one.table.p_value),
        format_p(one.p_holm),
    ]


def _curves(compared: Compared) -> Chart:
    """Every run's validation accuracy with its band, over the steps."""
    series = []
    for side in compared.sides:
        rounds = side.run.view.validations if side.run else ()
        shares = [(answers.step, answers.share("strict_correct")) for answers in rounds]
        if shares:
            series.append(Series.of_shares(side.name, shares))
    return Chart(
        "Held-out accuracy",
        "share of the validation problems, 95 % band",
        tuple(series),
        is_share=True,
        source="holdout/",
    )


def place_of(names: list[str], folder: Path) -> Path:
    """Where the page of a comparison is written, if no place is named.

    Many names are cut, and told apart by a hash: a system's file names have 255 bytes.
    """
    joined = "-".join(names)
    written = joined.encode()
    if len(written) > MOST_NAME_BYTES:
        cut = written[:MOST_NAME_BYTES].decode(errors="ignore")
        joined = f"{cut}-{sha256(written).hexdigest()[:8]}"
    return folder / f"compare-{joined}.html"

"""A ladder on the screen and on paper: a table, what fails and why, accuracy over size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_evaluator.results.compare import fits, format_p
from xmlgrpo_evaluator.results.paired import Difference
from xmlgrpo_run.files import replacing
from xmlgrpo_run.screen.say import say

COLUMNS = (
    *("model", "accuracy, 95%", "difference, 95%", "p"),
    *("MB", "bits", "tok/s", "MiB", "gate"),
)
NARROW = (("model", "accuracy, 95%", "difference, 95%", "gate"), ("model", *COLUMNS[3:-1]))
"""The columns of the two tables that a screen of 80 columns gets."""


def show(ladder: Mapping[str, Any], console: Console) -> None:
    """Print the table and the gate's verdict."""
    _show_tables(ladder, console)
    for rung in ladder["rungs"]:
        if rung["passed"] is False:
            say(console, escape(_reason(rung, ladder["tolerance"])), head="[bold red]fails[/] ")
    for rung in ladder["rungs"]:
        if rung["caution"]:
            say(console, escape(rung["caution"]), head="[bold red]caution[/] ")
    if ladder["passed"] is None:
        say(console, "there is no export to hold to the gate; make one with: make gguf")
    if ladder["passed"]:
        say(
            console,
            f"[green]the gate is passed[/]: no export loses more than {ladder['tolerance']:.1%}",
        )
    worst = min(
        (rung["difference"]["low"] for rung in ladder["rungs"] if rung["difference"]), default=0.0
    )
    if ladder["passed"] and worst < -ladder["tolerance"]:
        say(
            console,
            f"with {ladder['items']} items a loss of up to {-worst:.1%} cannot be ruled out; "
            "use more items for a sharper gate",
        )


def _show_tables(ladder: Mapping[str, Any], console: Console) -> None:
    """One table, or on a narrow screen two and what the first has no room for."""
    title = f"{ladder['task']}: {ladder['items']} items, {ladder['metric']}"
    say(console, Text(title, style="bold"))
    whole = _table(ladder, COLUMNS)
    if fits(whole, console):
        console.print(whole)
        return
    for part in NARROW:
        console.print(_table(ladder, part, says_against=False))
    for against, labels in _compared(ladder).items():
        say(console, escape(f"the difference of {', '.join(labels)} is to {against}"))


def _compared(ladder: Mapping[str, Any]) -> dict[str, list[str]]:
    """What exports are held against -> those exports."""
    compared: dict[str, list[str]] = {}
    for rung in ladder["rungs"]:
        if rung["against"]:
            compared.setdefault(rung["against"], []).append(rung["label"])
    return compared


def _table(
    ladder: Mapping[str, Any], columns: Sequence[str], *, says_against: bool = True
) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in columns:
        if name == "model":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="left" if name == "gate" else "right", no_wrap=True)
    for rung in ladder["rungs"]:
        row = dict(zip(COLUMNS, cells(rung, says_against=says_against), strict=True))
        style = "red" if rung["passed"] is False else ""
        table.add_row(*(escape(row[name]) for name in columns), style=style)
    return table


def cells(rung: Mapping[str, Any], *, says_against: bool = True) -> list[str]:
    """A rung as text, one cell a column of the table."""
    accuracy, gap = rung["accuracy"], rung["difference"]
    against = f" to {rung['against']}" if rung["against"] and says_against else ""
    size = rung["size_bytes"]
    return [
        rung["label"],
        f"{accuracy['mean']:.1%} [{accuracy['low']:.1%}, {accuracy['high']:.1%}]",
        f"{Difference(**gap)}{against}" if gap else "",
        format_p(rung["p"]) if rung["p"] is not None else "",
        f"{size / 1e6:.1f}" if size else "",
        f"{rung['bits_per_weight']:.2f}" if rung["bits_per_weight"] else "",
        f"{rung['tokens_per_s']:.0f}" if rung["tokens_per_s"] else "",
        f"{rung['peak_mib']:.0f}" if rung["peak_mib"] else "",
        {True: "pass", False: "FAIL", None: ""}[rung["passed"]],
    ]


def _reason(rung: Mapping[str, Any], tolerance: float) -> str:
    if rung["prompts_as_in_training"] is False:
        return f"{rung['label']}: its prompts are not token-identical to training's"
    return (
        f"{rung['label']}: {-rung['difference']['value']:.1%} below {rung['against']}, more than "
        f"the {tolerance:.1%} allowed"
    )


def plot(ladder: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy with its interval over size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rungs = [rung for rung in ladder["rungs"] if rung["size_bytes"]]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for rung in rungs:
        accuracy, size = rung["accuracy"], rung["size_bytes"] / 1e6
        axes.errorbar(
            size,
            accuracy["mean"],
            yerr=[[accuracy["mean"] - accuracy["low"]], [accuracy["high"] - accuracy["mean"]]],
            marker="o" if rung["passed"] is not False else "x",
            capsize=3,
            label=rung["label"],
        )
    axes.set_xscale("log")
    axes.set_xlabel("size of the weights, MB")
    axes.set_ylabel(f"{ladder['metric']}, 95% interval")
    axes.set_title(f"{ladder['task']}, {ladder['items']} items")
    axes.grid(visible=True, alpha=0.3)
    if rungs:  # a model of the Hub has no size here
        axes.legend(fontsize="small")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150)

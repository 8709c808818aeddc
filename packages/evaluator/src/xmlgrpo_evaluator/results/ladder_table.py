"""A ladder as a table on the screen and in the report, and as a picture; sampled replies, too."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_evaluator.results.compare import fits, format_p
from xmlgrpo_evaluator.settings import REPEATED
from xmlgrpo_run.files import replacing
from xmlgrpo_run.measures.paired import Difference
from xmlgrpo_run.screen.say import say

COLUMNS = (
    *("model", "accuracy, 95%", "difference, 95%", "to", "p"),
    *("MB", "bits", "tok/s", "MiB", "gate"),
)
NARROW = (("model", "accuracy, 95%", "difference, 95%", "gate"), ("model", *COLUMNS[3:-1]))
"""The columns of the two tables that a screen of 80 columns gets."""


SAMPLED = {"one sample": "strict_accuracy", "maj@{k}": "maj_at_k", "pass@{k}": "pass_at_k"}
"""What a table of sampled replies shows, and the metric of it."""


def show(ladder: Mapping[str, Any], console: Console) -> None:
    """Print the table, or on a narrow screen two, and the gate's verdict."""
    title = f"{ladder['task']}: {ladder['items']} items, {ladder['metric']}"
    say(console, Text(title, style="bold"))
    whole = _table(ladder, COLUMNS)
    for table in [whole] if fits(whole, console) else [_table(ladder, part) for part in NARROW]:
        console.print(table)
    if any(rung["sampled"] for rung in ladder["rungs"]):
        show_sampled(ladder["rungs"], ladder["settings"], console)
    rungs, tolerance = ladder["rungs"], ladder["tolerance"]
    for rung in rungs:
        if rung["passed"] is False:
            say(console, escape(_reason(rung, tolerance)), head="[bold red]fails[/] ")
    for rung in rungs:
        if rung["caution"]:
            say(console, escape(rung["caution"]), head="[bold red]caution[/] ")
    if ladder["passed"] is None:
        say(console, "there is no export to hold to the gate; make one: make gguf RUN=...")
    if not ladder["passed"]:
        return
    say(console, f"[green]the gate is passed[/]: no export loses more than {tolerance:.1%}")
    worst = min(rung["difference"]["low"] for rung in rungs if rung["difference"])
    if worst < -tolerance:
        say(
            console,
            f"with {ladder['items']} items a loss of up to {-worst:.1%} cannot be ruled out; "
            "use more items for a sharper gate",
        )


def show_sampled(
    rungs: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], console: Console
) -> None:
    """Print greedy accuracy and, beside it, what several sampled replies an item say.

    Args:
        rungs: each with `label`, greedy `accuracy` and `sampled` summaries by metric.
        settings: `k` and `temperature` of the replies, and their `seed`.
    """
    k, drawn = settings["k"], "{k} replies an item at T {temperature:g}, seed {seed}"
    say(console, Text(f"sampled: {drawn.format_map(settings)}; 95% intervals", style="bold"))
    table = Table(box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for name in ("greedy", *SAMPLED):
        table.add_column(name.format(k=k), justify="right")
    for rung in rungs:
        shares = [rung["accuracy"], *(rung["sampled"].get(name) for name in SAMPLED.values())]
        table.add_row(escape(rung["label"]), *(_share(one) if one else "" for one in shares))
    console.print(table)


def _share(summary: Mapping[str, Any]) -> str:
    return "{mean:.1%} [{low:.1%}, {high:.1%}]".format_map(summary)


def sampled_metrics(task: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Of a result's sampled replies: the summaries that the table shows; empty without any."""
    metrics = (result["tasks"].get(f"{task}{REPEATED}") or {}).get("metrics", {})
    return {name: metrics[name] for name in SAMPLED.values() if name in metrics}


def _table(ladder: Mapping[str, Any], columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in columns:
        if name == "model":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="left" if name == "gate" else "right", no_wrap=True)
    for rung in ladder["rungs"]:
        row = cells(rung)
        style = "red" if rung["passed"] is False else ""
        table.add_row(*(escape(row[name]) for name in columns), style=style)
    return table


def cells(rung: Mapping[str, Any]) -> dict[str, str]:
    """A rung as text, by the column of the table."""
    accuracy, gap, size = rung["accuracy"], rung["difference"], rung["size_bytes"]
    texts = (
        rung["label"],
        _share(accuracy),
        str(Difference(**gap)) if gap else "",
        rung["against"] or "",
        format_p(rung["p"]) if rung["p"] is not None else "",
        f"{size / 1e6:.1f}" if size else "",
        f"{rung['bits_per_weight']:.2f}" if rung["bits_per_weight"] else "",
        f"{rung['tokens_per_s']:.0f}" if rung["tokens_per_s"] else "",
        f"{rung['peak_mib']:.0f}" if rung["peak_mib"] else "",
        {True: "pass", False: "FAIL", None: ""}[rung["passed"]],
    )
    return dict(zip(COLUMNS, texts, strict=True))


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

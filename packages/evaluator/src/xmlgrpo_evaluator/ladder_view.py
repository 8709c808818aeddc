"""A ladder on the screen and on paper: a table, what fails and why, accuracy over size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_evaluator.compare import format_p
from xmlgrpo_evaluator.paired import Difference


def show(ladder: Mapping[str, Any], console: Console) -> None:
    """Print the table and the gate's verdict."""
    title = f"{ladder['task']}: {ladder['items']} items, {ladder['metric']}"
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
    for name in ("model", "accuracy, 95%", "difference, 95%", "p", "MB", "bits", "tok/s", "MiB"):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    table.add_column("gate")
    for rung in ladder["rungs"]:
        table.add_row(*map(escape, cells(rung)), style="red" if rung["passed"] is False else "")
    console.print(table)
    for rung in ladder["rungs"]:
        if rung["passed"] is False:
            console.print(f"[bold red]fails[/]: {escape(_reason(rung, ladder['tolerance']))}")
    for rung in ladder["rungs"]:
        if rung["caution"]:
            console.print(f"[bold red]caution[/]: {escape(rung['caution'])}")
    if ladder["passed"] is None:
        console.print("there is no export to hold to the gate; make one with: make gguf")
    if ladder["passed"]:
        console.print(
            f"[green]the gate is passed[/]: no export loses more than {ladder['tolerance']:.1%}"
        )
    worst = min(
        (rung["difference"]["low"] for rung in ladder["rungs"] if rung["difference"]), default=0.0
    )
    if ladder["passed"] and worst < -ladder["tolerance"]:
        console.print(
            f"with {ladder['items']} items a loss of up to {-worst:.1%} cannot be ruled out; "
            "use more items for a sharper gate"
        )


def cells(rung: Mapping[str, Any]) -> list[str]:
    """A rung as text, one cell a column of the table."""
    accuracy, gap = rung["accuracy"], rung["difference"]
    against = f" to {rung['against']}" if rung["against"] else ""
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
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=150)
    partial.replace(path)

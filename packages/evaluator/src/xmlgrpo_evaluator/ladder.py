"""All models of a run on the same items, from the base to the smallest file, with a gate.

Each rung is evaluated in a process of its own, so that its memory is its own and a crash in native
code costs one rung.  What `make eval` has evaluated already is read, not asked again.

The gate compares each export with what it was made from: the merged model with base and adapter,
each GGUF with the merged model.  It fails where accuracy drops by more than the tolerance, or
where the prompts are not those of training.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_evaluator.compare import compare_results, format_p
from xmlgrpo_evaluator.models import Model, run_ladder
from xmlgrpo_evaluator.paired import Difference
from xmlgrpo_evaluator.result import headline, read_result
from xmlgrpo_evaluator.settings import Settings
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.run_folder import RunFolder, write_json

LADDER_FORMAT = 1


def climb(folder: RunFolder, settings: Settings, tolerance: float, console: Console) -> bool:
    """Evaluate every model of a run that is not evaluated yet, and hold the exports to the gate.

    Writes `ladder.json` and `ladder.png` into the run's folder.

    Args:
        folder: the run.
        settings: how each rung is evaluated.
        tolerance: largest drop of accuracy that passes, as a share of 1.
        console: where the table goes.

    Returns:
        Whether every export passes.

    Raises:
        UserError: the tolerance is not a share, or a rung could not be evaluated.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"--tolerance: expected a share from 0 to below 1, came {tolerance}")
    models = run_ladder(folder)
    results = {}
    for model in models:
        out = folder.eval / f"{model.label}{settings.suffix()}.json"
        if not out.is_file():
            _evaluate_alone(folder, model, settings)
        results[model.label] = read_result(out)
    task = _common_task(results)
    rungs = [_rung(model, results, task, tolerance) for model in models]
    ladder = {
        "format": LADDER_FORMAT,
        "task": task,
        "metric": _headline_name(results, task),
        "items": len(next(iter(results.values()))["tasks"][task]["items"]),
        "tolerance": tolerance,
        "settings": settings.identity(),
        "rungs": rungs,
        "passed": all(rung["passed"] is not False for rung in rungs),
    }
    write_json(folder.root / "ladder.json", ladder)
    plot(ladder, folder.root / "ladder.png")
    show(ladder, console)
    return bool(ladder["passed"])


def _evaluate_alone(folder: RunFolder, model: Model, settings: Settings) -> None:
    command = [sys.executable, "-m", "xmlgrpo_evaluator.cli", "run", "--run", str(folder.root)]
    command += ["--what", model.label, "--quiet", *_arguments(settings)]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise UserError(
            f"{model.label} could not be evaluated (exit code {code}, its message is above); the "
            "other models' results are kept"
        )


def _arguments(settings: Settings) -> list[str]:
    """The command line that gives these settings again."""
    arguments = ["--task", ",".join(settings.tasks), "--seed", str(settings.seed)]
    arguments += ["--k", str(settings.k)]
    arguments += ["--max-new-tokens", str(settings.max_new_tokens)]
    arguments += ["--check-batch", str(settings.check_batch)]
    arguments += ["--batch-size", str(settings.batch_size)] if settings.batch_size else []
    arguments += ["--limit", str(settings.limit)] if settings.limit else []
    arguments += ["--data", str(settings.data)] if settings.data else []
    arguments += [] if settings.chat_template else ["--no-chat-template"]
    return arguments


def _common_task(results: Mapping[str, Mapping[str, Any]]) -> str:
    return str(next(iter(next(iter(results.values()))["tasks"])))


def _headline_name(results: Mapping[str, Mapping[str, Any]], task: str) -> str | None:
    top = headline(next(iter(results.values()))["tasks"][task])
    return top[0] if top else None


def _made_from(label: str, labels: Sequence[str]) -> str | None:
    """What an export is held against; None for what is no export."""
    if label in ("base", "tuned"):
        return None
    return "tuned" if label == "merged" or "merged" not in labels else "merged"


def _rung(
    model: Model, results: Mapping[str, Mapping[str, Any]], task: str, tolerance: float
) -> dict[str, Any]:
    result = results[model.label]
    top = headline(result["tasks"][task])
    if top is None:
        raise UserError(f"{task} has no metric that could be compared; name another --task")
    metric, accuracy = top
    rung: dict[str, Any] = {
        "label": model.label,
        "backend": model.backend,
        "accuracy": accuracy,
        "size_bytes": model.size_bytes(),
        "bits_per_weight": _bits_per_weight(result),
        "tokens_per_s": result["speed"]["tokens_per_s"],
        "peak_mib": result["speed"]["peak_mib"],
        "prompts_as_in_training": (result["prompts"] or {}).get("passed"),
        "against": _made_from(model.label, list(results)),
        "difference": None,
        "p": None,
        "passed": None,
    }
    if rung["against"] is None:
        return rung
    compared = compare_results(results[rung["against"]], result)["tasks"][task]["metrics"][metric]
    kept = compared["difference"]["value"] >= -tolerance
    return rung | {
        "difference": compared["difference"],
        "p": compared["p"],
        "passed": kept and rung["prompts_as_in_training"] is not False,
    }


def _bits_per_weight(result: Mapping[str, Any]) -> float | None:
    model = result["model"]
    if "bits_per_weight" in model:
        return float(model["bits_per_weight"])
    size, weights = model.get("size_bytes"), model.get("model_num_parameters")
    return round(8 * size / weights, 3) if size and weights else None


# on the screen and on paper


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
    axes.legend(fontsize="small")
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=150)
    partial.replace(path)

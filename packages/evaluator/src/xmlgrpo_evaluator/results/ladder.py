"""All models of a run on the same items, from the base to the smallest file, with a gate.

Each rung is evaluated in a process of its own, so that its memory is its own and a crash in native
code costs one rung.  What `make eval` has evaluated already is read, not asked again.

The gate compares each export with what it was made from: the merged model with base and adapter,
each GGUF with the merged model.  It fails where accuracy drops by more than the tolerance, or
where the prompts are not those of training.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_evaluator.models import Model, check_weights, pinned, run_ladder
from xmlgrpo_evaluator.results.compare import compare_results, engine_caution, fits, format_p
from xmlgrpo_evaluator.results.result import main_metric, read_result
from xmlgrpo_evaluator.settings import Evaluation, Settings
from xmlgrpo_rewards.console_script import interruption_code, kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256
from xmlgrpo_run.files import replacing, write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_run.measures.paired import Difference
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

LADDER_FORMAT = 1
OWN_END_S = 2
"""How long a model's process may take to end by itself after Ctrl-C."""
COLUMNS = (
    *("model", "accuracy, 95%", "difference, 95%", "to", "p"),
    *("MB", "bits", "tok/s", "MiB", "gate"),
)
NARROW = (("model", "accuracy, 95%", "difference, 95%", "gate"), ("model", *COLUMNS[3:-1]))
"""The columns of the two tables that a screen of 80 columns gets."""


def climb(
    run: RunFolder,
    manifest: Manifest,
    settings: Settings,
    tolerance: float,
    console: Console,
    *,
    evaluate: Callable[[Evaluation], None],
) -> bool:
    """Evaluate every model of a run that is not evaluated yet, and hold the exports to the gate.

    Writes `ladder.json` and `ladder.png` into the run's folder.

    Args:
        run: its folder.
        manifest: its record.
        settings: of every evaluation.
        tolerance: largest drop of accuracy that passes, as a share of 1.
        console: where the table goes.
        evaluate: is called in a process of its own, which must find it by its name.

    Returns:
        Whether no export fails; true too where there is no export to fail.

    Raises:
        UserError: the tolerance is not a share, a rung could not be evaluated, or a result that is
            there already is of another model, other settings or other items.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"--tolerance: expected a share from 0 to below 1, got {tolerance}")
    models = [pinned(model) for model in run_ladder(run, manifest)]
    evaluations = [
        Evaluation(model, settings, settings.result_file(run.eval, model.label)) for model in models
    ]
    results = _results(evaluations, console, evaluate)
    first = results[models[0].label]
    task = next(iter(first["tasks"]))
    top = main_metric(first["tasks"][task])
    if top is None:
        raise UserError(f"{task} has no metric that could be compared; name another --task")
    rungs = [_rung(model, results, task, tolerance) for model in models]
    verdicts = [rung["passed"] for rung in rungs if rung["passed"] is not None]
    ladder = {
        "format": LADDER_FORMAT,
        "task": task,
        "data": first["tasks"][task].get("data"),
        "metric": top[0],
        "items": len(first["tasks"][task]["items"]),
        "tolerance": tolerance,
        "settings": {key: value for key, value in first["subject"].items() if key != "model"},
        "rungs": rungs,
        "passed": all(verdicts) if verdicts else None,
    }
    with Stage(console, "drawing"):
        plot(ladder, run.ladder_plot)
    write_sealed(run.ladder, ladder | {"plot_sha256": file_sha256(run.ladder_plot)})
    show(ladder, console)
    return ladder["passed"] is not False


def _results(
    evaluations: Sequence[Evaluation], console: Console, evaluate: Callable[[Evaluation], None]
) -> dict[str, dict[str, Any]]:
    """The result of every model, evaluated where there is none; a foreign one is refused first."""
    with Stage(console, "finding task, items and models"):
        from xmlgrpo_evaluator.tasks import find_tasks

        with find_tasks(evaluations[0]) as tasks:
            results = {
                each.model.label: read_result(each.out, each.identity(tasks.data_digest))
                for each in evaluations
                if each.out.is_file()
            }
    check_weights(each.model for each in evaluations if each.model.label not in results)
    for number, each in enumerate(evaluations, start=1):
        label = each.model.label
        if label in results:
            continue
        say(console, f"model {number} of {len(evaluations)}")
        kept = f"finished and kept: {', '.join(results)}" if results else "no model was finished"
        with kept_on_interrupt(f"{kept}; the same command goes on with {label}"):
            _evaluate_alone(each, evaluate)
        results[label] = read_result(each.out)
    return results


def _evaluate_alone(evaluation: Evaluation, evaluate: Callable[[Evaluation], None]) -> None:
    process = get_context("spawn").Process(target=evaluate, args=(evaluation,))
    process.start()
    code = exit_code(process)
    if code in (128 + signal.SIGINT, -signal.SIGINT):
        sys.exit(128 + signal.SIGINT)  # it has printed what is kept
    if code:
        raise UserError(
            f"{evaluation.model.label} could not be evaluated (exit code {code}, its message is "
            "above); the other models' results are kept"
        )


def exit_code(process: BaseProcess) -> int | None:
    """Wait for a process; on Ctrl-C let it end by itself, since it prints what it keeps."""
    try:
        process.join()
    except KeyboardInterrupt as stopped:
        process.join(OWN_END_S)  # a terminal's Ctrl-C went to both
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGINT)  # a signal to this process alone did not
        process.join()
        if process.exitcode:
            sys.exit(interruption_code(stopped))
        raise  # it was just finished
    return process.exitcode


def _rung(
    model: Model, results: Mapping[str, Mapping[str, Any]], task: str, tolerance: float
) -> dict[str, Any]:
    result = results[model.label]
    top = main_metric(result["tasks"][task])
    rung: dict[str, Any] = {
        "label": model.label,
        "backend": model.backend,
        "content": result["subject"]["model"]["content"],
        "accuracy": top and top[1],
        "size_bytes": model.size_bytes(),
        "bits_per_weight": _bits_per_weight(result["model"]),
        "engines": (result.get("engines") or {}).get("answered"),
        "tokens_per_s": result["speed"]["tokens_per_s"],
        "peak_mib": result["speed"]["peak_mib"],
        "prompts_as_in_training": (result["prompts"] or {}).get("passed"),
        "against": _made_from(model.label, results),
        "difference": None,
        "caution": None,
        "p": None,
        "passed": None,
    }
    if rung["against"] is None:
        return rung
    original = results[rung["against"]]
    compared = compare_results(original, result)["tasks"][task]["metrics"][top and top[0]]
    is_near = Difference(**compared["difference"]).is_within(tolerance)
    return rung | {
        "difference": compared["difference"],
        "caution": engine_caution(original, result),
        "p": compared["p"],
        "passed": is_near and rung["prompts_as_in_training"] is not False,
    }


def _made_from(label: str, results: Mapping[str, Any]) -> str | None:
    """The model that an export is compared with; None for what is no export."""
    if label in ("base", "tuned"):
        return None
    return "tuned" if label == "merged" or "merged" not in results else "merged"


def _bits_per_weight(model: Mapping[str, Any]) -> float | None:
    if "bits_per_weight" in model:
        return float(model["bits_per_weight"])
    size, weights = model.get("size_bytes"), model.get("model_num_parameters")
    return round(8 * size / weights, 3) if size and weights else None


# on the screen and on paper


def show(ladder: Mapping[str, Any], console: Console) -> None:
    """Print the table, or on a narrow screen two, and the gate's verdict."""
    title = f"{ladder['task']}: {ladder['items']} items, {ladder['metric']}"
    say(console, Text(title, style="bold"))
    whole = _table(ladder, COLUMNS)
    for table in [whole] if fits(whole, console) else [_table(ladder, part) for part in NARROW]:
        console.print(table)
    rungs, tolerance = ladder["rungs"], ladder["tolerance"]
    for rung in rungs:
        if rung["passed"] is False:
            say(console, escape(_reason(rung, tolerance)), head="[bold red]fails[/] ")
    for rung in rungs:
        if rung["caution"]:
            say(console, escape(rung["caution"]), head="[bold red]caution[/] ")
    if ladder["passed"] is None:
        say(console, "there is no export to hold to the gate; make one with: make gguf")
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
        f"{accuracy['mean']:.1%} [{accuracy['low']:.1%}, {accuracy['high']:.1%}]",
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

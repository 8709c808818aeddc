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
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from rich.console import Console

from xmlgrpo_evaluator.models import Model, check_weights, pinned, run_ladder
from xmlgrpo_evaluator.results.compare import compare_results, engine_caution
from xmlgrpo_evaluator.results.ladder_table import plot, sampled_metrics, show
from xmlgrpo_evaluator.results.result import main_metric, read_result
from xmlgrpo_evaluator.settings import Evaluation, EvaluationSettings, what_is_kept
from xmlgrpo_rewards.console_script import interruption_code, kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import file_sha256
from xmlgrpo_run.files import write_sealed
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_run.measures.paired import Difference
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_run.stop_signals import let_signals_come, signals_wait

LADDER_FORMAT = 1
OWN_END_S = 10
"""How long a model's process may take to end by itself after Ctrl-C; a second cuts its words."""
NATIVE_END_S = 10
"""How long after that: native code hears no signal; every whole reply is on the disk by then."""


def climb(
    run: RunFolder,
    manifest: Manifest,
    settings: EvaluationSettings,
    tolerance: float,
    console: Console,
    *,
    evaluate: Callable[[Evaluation], None],
) -> bool:
    """Evaluate every model of a run that is not evaluated yet, and hold the exports to the gate.

    Writes `ladder.json` and `ladder.png` into the run's folder.

    Args:
        tolerance: largest drop of accuracy that passes, as a share of 1.
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
    with kept_on_interrupt(lambda: what_is_kept(evaluations)):
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
        _evaluate_alone(each, evaluate)
        results[label] = read_result(each.out)
    return results


def _evaluate_alone(evaluation: Evaluation, evaluate: Callable[[Evaluation], None]) -> None:
    process = get_context("spawn").Process(target=evaluate, args=(evaluation,))
    ensure_running()  # multiprocessing's own helper, whose start would let waiting signals come
    with signals_wait():  # a Python that is not yet ours answers Ctrl-C with a traceback
        process.start()
        code = exit_code(process)
    if code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code == 128 + signal.SIGINT:
        sys.exit(code)  # it has printed what is kept
    if code:
        raise UserError(
            f"{evaluation.model.label} could not be evaluated (exit code {code}, its message is "
            "above); the other models' results are kept"
        )


def exit_code(process: BaseProcess) -> int | None:
    """Wait for a process; on Ctrl-C let it end by itself, since it prints what it keeps."""
    try:
        let_signals_come()
        process.join()
    except KeyboardInterrupt as stopped:
        process.join(OWN_END_S)  # a terminal's Ctrl-C went to both
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGINT)  # a signal to this process alone did not
        process.join(NATIVE_END_S)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode and process.exitcode > 0:
            sys.exit(interruption_code(stopped))
        raise  # it had just finished, or a signal ended it without a word
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
        "sampled": sampled_metrics(task, result),
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

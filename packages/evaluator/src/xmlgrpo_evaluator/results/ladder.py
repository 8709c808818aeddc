"""All models of a run on the same items, from the base to the smallest file, with a gate.

Each rung is evaluated in a process of its own, so that its memory is its own and a crash in native
code costs one rung.  What `make eval` has evaluated already is read, not asked again.

The gate compares each export with what it was made from: the merged model with base and adapter,
each GGUF with the merged model.  It fails where accuracy drops by more than the tolerance, or
where the prompts are not those of training.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console

from xmlgrpo_evaluator.results.compare import compare_results
from xmlgrpo_evaluator.results.identity import read_result_of, subject_of
from xmlgrpo_evaluator.results.ladder_view import plot, show
from xmlgrpo_evaluator.results.result import headline
from xmlgrpo_evaluator.setup.engines import engine_caution
from xmlgrpo_evaluator.setup.models import Model, check_weights, run_ladder
from xmlgrpo_evaluator.setup.of_run import result_place
from xmlgrpo_evaluator.setup.settings import Settings
from xmlgrpo_rewards.errors import UserError, interruption_code, kept_on_interrupt
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

LADDER_FORMAT = 1
OWN_END_S = 2
"""How long a model's process may take to end by itself after Ctrl-C."""


def climb(folder: RunFolder, settings: Settings, tolerance: float, console: Console) -> bool:
    """Evaluate every model of a run that is not evaluated yet, and hold the exports to the gate.

    Writes `ladder.json` and `ladder.png` into the run's folder.

    Args:
        folder: the run.
        settings: how each rung is evaluated.
        tolerance: largest drop of accuracy that passes, as a share of 1.
        console: where the table goes.

    Returns:
        Whether no export fails; true too where there is no export to fail.

    Raises:
        UserError: the tolerance is not a share, a rung could not be evaluated, or a result that is
            there already is of another model, other settings or other items.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"--tolerance: expected a share from 0 to below 1, got {tolerance}")
    models = run_ladder(folder)
    results = _results(folder, models, settings, console)
    task = _common_task(results)
    rungs = [_rung(model, results, task, tolerance) for model in models]
    ladder = {
        "format": LADDER_FORMAT,
        "task": task,
        "metric": _headline_name(results, task),
        "items": len(next(iter(results.values()))["tasks"][task]["items"]),
        "tolerance": tolerance,
        "settings": _settings_of(results),
        "rungs": rungs,
        "passed": _verdict(rungs),
    }
    write_json(folder.ladder, ladder)
    with Stage(console, "drawing"):
        plot(ladder, folder.root / "ladder.png")
    show(ladder, console)
    return ladder["passed"] is not False


def _results(
    folder: RunFolder, models: Sequence[Model], settings: Settings, console: Console
) -> dict[str, dict[str, Any]]:
    """The result of every model, evaluated where there is none; a foreign one is refused first."""
    places = {m.label: result_place(folder, m.label, settings) for m in models}
    with Stage(console, "finding task, items and models"):
        from xmlgrpo_evaluator.setup.tasks import find_tasks

        with find_tasks(models[0], settings) as found:
            subjects = {m.label: subject_of(m, settings, found.data_digest) for m in models}
    for label, place in places.items():
        if place.is_file():
            read_result_of(place, subjects[label])
    check_weights(model for model in models if not places[model.label].is_file())
    for number, model in enumerate(models, start=1):
        done = [label for label, place in places.items() if place.is_file()]
        if model.label in done:
            continue
        say(console, f"model {number} of {len(models)}")
        kept = f"finished and kept: {', '.join(done)}" if done else "no model was finished"
        with kept_on_interrupt(f"{kept}; the same command goes on with {model.label}"):
            _evaluate_alone(folder, model, settings)
    return {label: read_result_of(place, subjects[label]) for label, place in places.items()}


def _settings_of(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How the rungs were evaluated, which is the same for all of them."""
    subject = next(iter(results.values()))["subject"]
    return {key: value for key, value in subject.items() if key != "model"}


def _verdict(rungs: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether every export passes; None without one."""
    verdicts = [rung["passed"] for rung in rungs if rung["passed"] is not None]
    return all(verdicts) if verdicts else None


def _evaluate_alone(folder: RunFolder, model: Model, settings: Settings) -> None:
    command = [sys.executable, "-m", "xmlgrpo_evaluator.cli", "run", "--run", str(folder.root)]
    command += ["--what", model.label, "--quiet", *_arguments(settings)]
    command += ["--engine", settings.engine] if model.backend == "hf" else []
    code = _run(command)
    if code in (128 + signal.SIGINT, -signal.SIGINT):
        sys.exit(128 + signal.SIGINT)  # it has said what is kept
    if code:
        raise UserError(
            f"{model.label} could not be evaluated (exit code {code}, its message is above); the "
            "other models' results are kept"
        )


def _run(command: Sequence[str]) -> int:
    """Run a command to its end; on Ctrl-C let it end by itself, since it says what it keeps."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        except KeyboardInterrupt as stopped:
            # a terminal's Ctrl-C went to both; a signal to this process alone did not
            with suppress(subprocess.TimeoutExpired):
                process.wait(OWN_END_S)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            if process.wait():
                sys.exit(interruption_code(stopped))  # it has said what is kept
            raise  # it was just finished


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
        "content": result["subject"]["model"]["content"],
        "accuracy": accuracy,
        "size_bytes": model.size_bytes(),
        "bits_per_weight": _bits_per_weight(result),
        "engines": (result.get("engines") or {}).get("answered"),
        "tokens_per_s": result["speed"]["tokens_per_s"],
        "peak_mib": result["speed"]["peak_mib"],
        "prompts_as_in_training": (result["prompts"] or {}).get("passed"),
        "against": _made_from(model.label, list(results)),
        "difference": None,
        "caution": None,
        "p": None,
        "passed": None,
    }
    if rung["against"] is None:
        return rung
    original = results[rung["against"]]
    compared = compare_results(original, result)["tasks"][task]["metrics"][metric]
    kept = compared["difference"]["value"] >= -tolerance
    return rung | {
        "difference": compared["difference"],
        "caution": engine_caution(original, result),
        "p": compared["p"],
        "passed": kept and rung["prompts_as_in_training"] is not False,
    }


def _bits_per_weight(result: Mapping[str, Any]) -> float | None:
    model = result["model"]
    if "bits_per_weight" in model:
        return float(model["bits_per_weight"])
    size, weights = model.get("size_bytes"), model.get("model_num_parameters")
    return round(8 * size / weights, 3) if size and weights else None

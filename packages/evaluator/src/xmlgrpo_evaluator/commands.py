"""What the subcommands of `xmlgrpo-eval` do, once the heavy imports are worth it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_evaluator.setup.models import Model, any_model, check_weights, run_model
from xmlgrpo_evaluator.setup.of_run import result_place, settings_of
from xmlgrpo_evaluator.setup.settings import DEFAULT_MAX_NEW_TOKENS, DEFAULT_TASK, Settings
from xmlgrpo_rewards.errors import UserError, kept_on_interrupt
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import OUTPUTS, RunFolder, find_run
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say

PIPE_COLUMNS = 140


def run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a run's models, or one model; two models are compared."""
    console = _console()
    settings = _settings(options, rest)
    if options.run:
        for name in ("adapter", "tokenizer", "backend", "out"):
            if getattr(options, name):
                raise UserError(f"--{name} goes with --model, not with --run")
        folder = find_run(options.run)
        settings = for_run(settings, folder, options)
        targets = [
            (model, result_place(folder, model.label, settings))
            for model in (run_model(folder, name) for name in options.what.split(","))
        ]
        comparison = result_place(folder, "compare", settings)
    else:
        model = any_model(
            options.model,
            adapter=options.adapter,
            tokenizer=options.tokenizer,
            backend=options.backend,
        )
        default = OUTPUTS / "eval" / f"{model.label}{settings.suffix()}.json"
        targets, comparison = [(model, options.out or default)], None
    if settings.engine != "auto" and all(model.backend != "hf" for model, _ in targets):
        raise UserError(
            f"--engine {settings.engine} is for models that transformers reads; "
            f"{targets[0][0].source} is run by {targets[0][0].backend}"
        )
    if settings.engine == "graph":
        from xmlgrpo_evaluator.harness.hf_options import check_options

        check_options(settings.harness.get("gen_kwargs", {}))
    _evaluate_all(targets, settings, console, quiet=options.quiet)
    if comparison and len(targets) == 2:
        from xmlgrpo_evaluator.results.compare import compare_results, show
        from xmlgrpo_evaluator.results.result import read_result

        compared = compare_results(*(read_result(out) for _, out in targets))
        write_json(comparison, compared)
        show(compared, console)
        say(console, escape(f"results: {comparison.parent}"))
    else:
        say(console, escape(f"result: {targets[-1][1]}"))
    return 0


def compare(options: argparse.Namespace) -> int:
    """Compare two result files."""
    from xmlgrpo_evaluator.results.compare import compare_results, show
    from xmlgrpo_evaluator.results.result import read_result

    compared = compare_results(read_result(options.first), read_result(options.second))
    show(compared, _console(), examples=options.examples)
    return 0


def ladder(options: argparse.Namespace) -> int:
    """Put all models of a run into one table; exit code 1 when the gate is not passed."""
    from xmlgrpo_evaluator.results.ladder import climb

    folder = find_run(options.run)
    settings = for_run(_settings(options, ()), folder, options)
    return 0 if climb(folder, settings, options.tolerance, _console()) else 1


def for_run(settings: Settings, folder: RunFolder, options: argparse.Namespace) -> Settings:
    """Fill in what the run decides unless the command line says otherwise."""
    return settings_of(
        folder,
        settings,
        task=options.task is not None,
        reply_limit=options.max_new_tokens is not None,
    )


def _evaluate_all(
    targets: Sequence[tuple[Model, Path]], settings: Settings, console: Console, *, quiet: bool
) -> None:
    check_weights(model for model, out in targets if not out.exists())
    os.environ.setdefault("TQDM_DISABLE", "1")  # our own bar is shown instead
    with Stage(console, "loading lm-eval"):
        from xmlgrpo_evaluator.harness.open import quieten
        from xmlgrpo_evaluator.run import evaluate

        quieten()
    for number, (model, out) in enumerate(targets):
        before = [done.label for done, _ in targets[:number]]
        kept = f"the result of {' and '.join(before)} is kept" if before else "nothing was asked"
        with kept_on_interrupt(f"{kept}; the same command goes on with {model.label}"):
            evaluate(model, settings, out, console, quiet=quiet)


def _settings(options: argparse.Namespace, rest: Sequence[str]) -> Settings:
    passed: dict[str, Any] = {}
    if rest:
        with Stage(_console(), "reading lm-eval's options"):
            passed = _harness_options(rest)
    include = passed.pop("include_path", None)
    return Settings(
        tasks=tuple((options.task or DEFAULT_TASK).split(",")),
        limit=options.limit,
        seed=options.seed,
        k=options.k,
        max_new_tokens=options.max_new_tokens or DEFAULT_MAX_NEW_TOKENS,
        batch_size=_batch_size(options.batch_size),
        engine=options.engine,
        chat_template=not options.no_chat_template,
        check_batch=options.check_batch,
        data=options.data,
        include_path=(Path(include),) if include else (),
        model_args=passed.pop("model_args", None) or {},
        harness=passed,
    )


def _batch_size(given: str | None) -> int | str | None:
    return int(given) if given and given.isdigit() else given


def _harness_options(rest: Sequence[str]) -> dict[str, Any]:
    """Read arguments that we do not know with lm-eval's own parser."""
    from inspect import signature

    import lm_eval
    from lm_eval._cli.run import Run

    parser = argparse.ArgumentParser(prog="lm-eval")
    subparsers = parser.add_subparsers()
    Run.create(subparsers)
    given = {arg.split("=")[0].lstrip("-") for arg in rest if arg.startswith("-")}
    try:
        parsed = vars(subparsers.choices["run"].parse_args(list(rest)))
    except SystemExit:
        raise UserError(
            f"lm-eval does not take {' '.join(rest)!r}; see: xmlgrpo-eval harness run --help"
        ) from None
    taken = {*signature(lm_eval.simple_evaluate).parameters, "include_path"}
    chosen = {key: value for key, value in parsed.items() if key in given or value}
    chosen.pop("func", None)
    unusable = sorted(set(chosen) - taken)
    _check_numbers(chosen.get("gen_kwargs") or {})
    if unusable:
        raise UserError(
            f"--{unusable[0]} belongs to lm-eval's own command line; use: xmlgrpo-eval harness run"
        )
    return chosen


def _check_numbers(generation: Mapping[str, Any]) -> None:
    for name in ("temperature", "top_p", "top_k", "min_p"):
        value = generation.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"--gen_kwargs: expected a number as {name}, got {value!r}")


def _console() -> Console:
    console = Console()
    # rich takes 80 columns for a pipe, which is too few for a table with intervals
    return console if console.is_terminal else Console(width=PIPE_COLUMNS)

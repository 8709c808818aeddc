"""`xmlgrpo-eval`: evaluate models, compare two results, hold a run's exports to a gate."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_evaluator.fresh import FRESH_TASK, ROWS, fresh_file, told
from xmlgrpo_evaluator.models import any_model, check_weights, pinned, run_model
from xmlgrpo_evaluator.results.compare import compare_results, show
from xmlgrpo_evaluator.results.ladder import climb
from xmlgrpo_evaluator.results.result import read_result
from xmlgrpo_evaluator.settings import (
    Evaluation,
    greedy_alone,
    model_settings,
    run_settings,
    what_is_kept,
)
from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import (
    add_version,
    kept_on_interrupt,
    path_argument,
    run_command,
    seed_argument,
    within,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_sealed, write_sealed
from xmlgrpo_run.folder import OUTPUTS, find_run
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.screen.console import make_console, quiet_libraries
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_run.stop_signals import end_with_parent, let_signals_come

EPILOG = """\
examples:
  xmlgrpo-eval run --run tiny                     base and tuned, compared
  xmlgrpo-eval run --run tiny --k 16              and of 16 samples an item
  xmlgrpo-eval run --model org/name --limit 100   any Hub model or folder
  xmlgrpo-eval run --model a.gguf --task arc_easy any task of lm-eval on a GGUF
  xmlgrpo-eval compare a.json b.json              two results on the same items
  xmlgrpo-eval ladder --run tiny                  all models of a run; a gate
  xmlgrpo-eval harness ls tasks                   lm-eval itself, with llama-cpp
"""
OF_HARNESS = ".venv/bin/xmlgrpo-eval harness run"
PIPE_COLUMNS = 140
K_HELP = "beside the greedy reply K sampled ones per item: their accuracy, maj@k, pass@k"
BATCH_HELP = "replies at once (graph: 64, on a GPU 128; generate: 16; GGUF: 32)"


def parser() -> argparse.ArgumentParser:
    """The command line, with every subcommand."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-eval",
        description="Evaluate models on the same items, prompt and decoding.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(made)
    commands = made.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="evaluate a run (base and tuned) or any model",
        description="Evaluate a run's base and tuned model, or any model. Arguments that are not "
        "listed go to lm-eval (see: xmlgrpo-eval harness run --help).",
    )
    what = run.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", metavar="RUN", help="a run: its folder, or its name under outputs/")
    what.add_argument("--model", metavar="MODEL", help="a folder, a .gguf file or a Hub id")
    run.add_argument(
        "--what",
        default="base,tuned",
        metavar="LIST",
        help="models of the run: base, tuned, merged, names in gguf/ (default: base,tuned)",
    )
    run.add_argument("--adapter", metavar="DIR", help="a LoRA adapter on top of --model")
    run.add_argument("--tokenizer", metavar="DIR", help="training tokenizer, to check prompts with")
    run.add_argument("--backend", choices=("hf", "vllm"), help="what runs --model (default: hf)")
    run.add_argument(
        "--out", type=path_argument, metavar="FILE", help="the result file, for --model"
    )
    run.add_argument("--quiet", action="store_true", help="no line per item")
    run.add_argument(
        "--fresh",
        type=int,
        nargs="?",
        const=ROWS,
        metavar="N",
        help=f"N of GSM8K's problems with new numbers: learned, or remembered? ({ROWS})",
    )
    _add_settings(run)
    compare = commands.add_parser("compare", help="compare two results on the same items")
    compare.add_argument("first", type=path_argument, metavar="A.json")
    compare.add_argument("second", type=path_argument, metavar="B.json")
    compare.add_argument(
        "--examples", type=within(0, 1_000_000), default=3, help="flips shown each way"
    )
    ladder = commands.add_parser("ladder", help="all models of a run in one table, with a gate")
    ladder.add_argument("--run", required=True, metavar="RUN")
    ladder.add_argument(
        "--tolerance",
        type=within(0.0, 1.0),
        default=0.02,
        help="largest drop of accuracy below the merged model that passes (default: 0.02)",
    )
    _add_settings(ladder)
    return made


def main() -> None:
    """Entry point of the console script."""
    let_threads_sleep()
    run_command(lambda: run(sys.argv[1:]))


def run(arguments: list[str]) -> int | None:
    """Parse the command line, run the subcommand, return the exit code."""
    if arguments[:1] == ["harness"]:
        return _harness(arguments[1:])
    made = parser()
    options, rest = made.parse_known_args(arguments)
    if options.command is None:
        made.print_help()
        return 0
    if rest and options.command != "run":
        how = f".venv/bin/xmlgrpo-eval {options.command} --help"
        raise UserError(f"unknown argument {rest[0]!r}; see: {how}")
    quiet_libraries()  # before any of them is imported
    command = {"run": _run, "compare": _compare, "ladder": _ladder}[options.command]
    with kept_on_interrupt("nothing was begun; the same command begins again"):
        return command(options, rest)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", "--tasks", default=None, metavar="LIST", help="lm-eval tasks (default: its own)")
    add("--limit", type=int, metavar="N", help="the first N items only")
    add(
        "--seed", type=seed_argument, default=0, metavar="N", help="of sampled replies (default: 0)"
    )
    add("--k", type=int, default=1, metavar="K", help=K_HELP)
    add("--temperature", type=float, metavar="T", help="of these K replies (default: 1)")
    add("--batch-size", "--batch_size", metavar="N", help=BATCH_HELP)
    add("--engine", default="auto", metavar="NAME", help="of HF models: auto, generate or graph")
    add("--max-new-tokens", type=int, metavar="N", help="the limit of a reply")
    add(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="items: a file, or a folder with a test split",
    )
    add("--no-chat-template", action="store_true", help="ask without a chat template")
    add("--check-batch", type=int, default=4, metavar="N", help="items asked again alone (4)")


def _run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a run's models, or one model; two models are compared."""
    console = command_console()
    given = _given(options, rest)
    if options.fresh is not None:
        given |= _fresh(options)
    if options.run:
        for name in ("adapter", "tokenizer", "backend", "out"):
            if getattr(options, name):
                raise UserError(f"--{name} goes with --model, not with --run")
        run = find_run(options.run)
        manifest = read_manifest(run)
        settings = run_settings(run, manifest, given)
        models = [run_model(run, manifest, name) for name in options.what.split(",")]
        outs = [settings.result_file(run.eval, model.label) for model in models]
    else:
        settings = model_settings(options.model, given)
        model = any_model(
            options.model,
            adapter=options.adapter,
            tokenizer=options.tokenizer,
            backend=options.backend,
        )
        default = settings.result_file(OUTPUTS / "eval", model.label)
        models, outs = [model], [options.out or default]
    if settings.engine != "auto" and all(model.backend != "hf" for model in models):
        raise UserError(
            f"--engine {settings.engine} is for models that transformers reads; "
            f"{models[0].source} is run by {models[0].backend}"
        )
    if settings.engine == "graph":
        from xmlgrpo_evaluator.harness.hf_options import check_options

        check_options(settings.harness.get("gen_kwargs", {}))
    pairs = zip(models, outs, strict=True)
    evaluations = [Evaluation(pinned(model), settings, out) for model, out in pairs]
    with kept_on_interrupt(lambda: what_is_kept(evaluations)):
        results = _evaluate_all(evaluations, console, quiet=options.quiet)
        if len(outs) != 2:
            say(console, escape(f"result: {outs[-1]}"))
            return 0
        compared = compare_results(*results)
        write_sealed(settings.result_file(run.eval, "compare"), compared)
        show(compared, console)
        if options.fresh is not None:
            usual = replace(settings, tasks=(settings.own_task,))
            each = [one.result_file(run.eval, "compare") for one in (usual, greedy_alone(usual))]
            known = next((read_sealed(path) for path in each if path.is_file()), None)
            say(console, escape(told(compared, known)))
        say(console, escape(f"results: {run.eval}"))
    return 0


def _fresh(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that ask fresh numbers; writes them beside the results, once."""
    if options.data or options.task:
        raise UserError("--fresh makes its own items for gsm8k; leave --data and --task out")
    if options.fresh < 1:
        raise UserError(f"--fresh: expected a whole number above 0, got {options.fresh}")
    folder = OUTPUTS / "eval"
    if options.run:
        run = find_run(options.run)
        folder = run.eval
        if (task := read_manifest(run).task) != "gsm8k":
            raise UserError(f"--fresh has new numbers for gsm8k alone; this run is of {task!r}")
    return {"tasks": (FRESH_TASK,), "data": fresh_file(folder, options.fresh, options.seed)}


def _compare(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """Compare two result files."""
    compared = compare_results(read_result(options.first), read_result(options.second))
    show(compared, command_console(), examples=options.examples)
    return 0


def _ladder(options: argparse.Namespace, _rest: Sequence[str]) -> int:
    """Put all models of a run into one table; exit code 1 when the gate is not passed."""
    run = find_run(options.run)
    manifest = read_manifest(run)
    settings = run_settings(run, manifest, _given(options, ()))
    console, tolerance = command_console(), options.tolerance
    passed = climb(run, manifest, settings, tolerance, console, evaluate=evaluate_quietly)
    return 0 if passed else 1


def evaluate_quietly(evaluation: Evaluation) -> None:
    """Evaluate a model as the whole work of a process, which ends with it or with the ladder."""

    def command() -> None:
        let_signals_come()
        end_with_parent()
        with kept_on_interrupt("what was finished is kept; the same command goes on"):
            _evaluate_all([evaluation], command_console(), quiet=True)

    run_command(command)


def _evaluate_all(
    evaluations: Sequence[Evaluation], console: Console, *, quiet: bool
) -> list[dict[str, Any]]:
    check_weights(each.model for each in evaluations)
    with Stage(console, "loading lm-eval"):
        from xmlgrpo_evaluator.evaluate import evaluate, quiet_harness

        quiet_harness()
    return [evaluate(evaluation, console, quiet=quiet) for evaluation in evaluations]


def command_console() -> Console:
    """Where a command prints: rich takes 80 columns for a pipe, too few for a table."""
    return make_console(PIPE_COLUMNS)


def _harness(arguments: list[str]) -> int:
    """Run lm-eval's own command line with `llama-cpp` among its models."""
    from lm_eval._cli.harness import HarnessCLI

    import xmlgrpo_evaluator.harness.gguf  # noqa: F401  # registers the model

    sys.argv = ["lm_eval", *arguments]  # lm-eval reads it from here
    cli = HarnessCLI()
    cli.execute(cli.parse_args())
    return 0


# from arguments to settings


def _given(options: argparse.Namespace, rest: Sequence[str]) -> dict[str, Any]:
    """The settings that the command line names."""
    passed: dict[str, Any] = {}
    if rest:
        with Stage(command_console(), "reading lm-eval's options"):
            passed = _lm_eval_options(rest)
    passed.pop("log_samples", None)  # every reply is in the result anyway
    include, size = passed.pop("include_path", None), options.batch_size
    named = {
        "tasks": tuple(options.task.split(",")) if options.task else None,
        "limit": options.limit,
        "seed": options.seed,
        "k": options.k,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens,
        "batch_size": int(size) if size and size.isdecimal() else size,
        "engine": options.engine,
        "chat_template": not options.no_chat_template,
        "check_batch": options.check_batch,
        "data": options.data,
        "include_path": (path_argument(include),) if include else (),
        "model_args": passed.pop("model_args", None) or {},
        "harness": passed,
    }
    return {name: value for name, value in named.items() if value is not None}


def _lm_eval_options(rest: Sequence[str]) -> dict[str, Any]:
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
            f"lm-eval does not take {' '.join(rest)!r}; see: {OF_HARNESS} --help"
        ) from None
    taken = {*signature(lm_eval.simple_evaluate).parameters, "include_path"}
    chosen = {key: value for key, value in parsed.items() if key in given or value}
    chosen.pop("func", None)
    unusable = sorted(set(chosen) - taken)
    _check_numbers(chosen.get("gen_kwargs") or {})
    if unusable:
        raise UserError(f"--{unusable[0]} belongs to lm-eval's own command line; use: {OF_HARNESS}")
    return chosen


def _check_numbers(generation: Mapping[str, Any]) -> None:
    for name in ("temperature", "top_p", "top_k", "min_p"):
        value = generation.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"--gen_kwargs: expected a number as {name}, got {value!r}")


if __name__ == "__main__":
    main()

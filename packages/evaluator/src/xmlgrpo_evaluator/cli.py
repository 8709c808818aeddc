"""`xmlgrpo-eval`: evaluate models, compare two results, hold a run's exports to a gate."""

import argparse
import sys
from pathlib import Path

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.errors import UserError, kept_on_interrupt, run_command
from xmlgrpo_rewards.version import add_version

EPILOG = """\
examples:
  xmlgrpo-eval run --run tiny                     base and tuned, compared
  xmlgrpo-eval run --model org/name --limit 100   any Hub model or folder
  xmlgrpo-eval run --model a.gguf --task arc_easy any task of lm-eval on a GGUF
  xmlgrpo-eval compare a.json b.json              two results on the same items
  xmlgrpo-eval ladder --run tiny                  all models of a run; a gate
  xmlgrpo-eval harness ls tasks                   lm-eval itself, with llama-cpp
"""
BATCH_HELP = "replies at once (graph: 64, on a GPU 128; generate: 16; GGUF: 32)"


def main() -> None:
    """The console script."""
    let_threads_sleep()
    run_command(lambda: _main(sys.argv[1:]))


def _main(arguments: list[str]) -> int | None:
    if arguments[:1] == ["harness"]:
        return _harness(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if rest and options.command != "run":
        raise UserError(f"unknown argument {rest[0]!r}; see: xmlgrpo-eval {options.command} --help")
    with kept_on_interrupt("nothing new was finished; the same command begins again"):
        from xmlgrpo_evaluator import commands

        if options.command == "run":
            return commands.run(options, rest)
        command = commands.compare if options.command == "compare" else commands.ladder
        return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xmlgrpo-eval",
        description="Evaluate models on the same items, prompt and decoding.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
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
    run.add_argument("--out", type=Path, metavar="FILE", help="the result file, for --model")
    run.add_argument("--quiet", action="store_true", help="no line an item")
    _add_settings(run)
    compare = commands.add_parser("compare", help="compare two results on the same items")
    compare.add_argument("first", type=Path, metavar="A.json")
    compare.add_argument("second", type=Path, metavar="B.json")
    compare.add_argument("--examples", type=int, default=3, help="flips shown each way")
    ladder = commands.add_parser("ladder", help="all models of a run in one table, with a gate")
    ladder.add_argument("--run", required=True, metavar="RUN")
    ladder.add_argument(
        "--tolerance",
        type=float,
        default=0.02,
        help="largest drop of accuracy below the merged model that passes (default: 0.02)",
    )
    _add_settings(ladder)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", "--tasks", default=None, metavar="LIST", help="lm-eval tasks (gsm8k_xml)")
    add("--limit", type=int, metavar="N", help="the first N items only")
    add("--seed", type=int, default=0, metavar="N", help="of sampled replies (default: 0)")
    add("--k", type=int, default=1, metavar="K", help="K sampled replies an item: pass@k, maj@k")
    add("--batch-size", "--batch_size", metavar="N", help=BATCH_HELP)
    add("--engine", default="auto", metavar="NAME", help="of HF models: auto, generate or graph")
    add("--max-new-tokens", type=int, metavar="N", help="the limit of a reply")
    add("--data", type=Path, metavar="PATH", help="items: a folder with test.jsonl, or a .jsonl")
    add("--no-chat-template", action="store_true", help="ask without a chat template")
    add("--check-batch", type=int, default=4, metavar="N", help="items asked again alone (4)")


def _harness(arguments: list[str]) -> int:
    """Run lm-eval's own command line with `llama-cpp` among its models."""
    from lm_eval._cli.harness import HarnessCLI

    import xmlgrpo_evaluator.harness.gguf  # noqa: F401  # registers the model

    sys.argv = ["lm_eval", *arguments]  # lm-eval reads it from here
    cli = HarnessCLI()
    cli.execute(cli.parse_args())
    return 0


if __name__ == "__main__":
    main()

"""`xmlgrpo-export check`: put GGUF files through the gates."""

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from xmlgrpo_exporter.check.gate import EXIT_GATE_FAILED
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.convert.quants import GivenLimits
from xmlgrpo_rewards.errors import UserError, kept_on_interrupt
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.screen.say import say

if TYPE_CHECKING:
    from xmlgrpo_exporter.check.check import FileCheck
    from xmlgrpo_exporter.check.exam import Bench

DEFAULT_TIMEOUT_S = 1800
SOURCE_REPLIES = 4
ANSWER_CHARS = 200


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="put GGUF files through the gates",
        description="Hold GGUF files against the model they were made from: token ids, BOS, "
        "template, stop ids, distance, greedy replies. The numbers go to check.json beside the "
        "files. Exit code 3: a gate failed.",
    )
    add_model(parser)
    parser.add_argument("--gguf", type=Path, nargs="+", help="files (default: all of RUN/gguf)")
    parser.add_argument("--out", type=Path, help="where check.json goes (default: beside the file)")
    add_gate_options(parser)
    parser.set_defaults(command=command)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add what is exported: a run, or a model folder from elsewhere."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--run", help=shared.RUN_HELP)
    subject.add_argument("--model", type=Path, help="a folder with safetensors and tokenizer.json")


def add_gate_options(parser: argparse.ArgumentParser) -> None:
    """Add the limits of the gates, and what is asked."""
    shared.add_comparison(parser)
    limits = parser.add_argument_group("limits, instead of those of the file's type")
    limits.add_argument("--max-kl", type=float, metavar="NATS")
    limits.add_argument("--min-top1", type=float, metavar="SHARE")
    limits.add_argument("--min-identical", type=float, metavar="SHARE")
    limits.add_argument(
        "--timeout-s",
        type=shared.positive,
        default=DEFAULT_TIMEOUT_S,
        help="longest time a file may take to answer (default: %(default)s)",
    )


@kept_on_interrupt("check.json is as it was; the same command checks from the start")
def command(arguments: argparse.Namespace) -> int:
    """Check the files of the arguments."""
    from xmlgrpo_exporter.check.record import write_check
    from xmlgrpo_exporter.convert.converter import require_runtime
    from xmlgrpo_exporter.merge.record import require_compared
    from xmlgrpo_run.digests import hash_ahead, model_digest, model_files
    from xmlgrpo_run.lock import LOCK, one_writer

    console = shared.console()
    run = find_run(arguments.run) if arguments.run else None
    files = find_files(run, arguments.gguf)
    model = shared.require_folder(*_model_of(run, arguments))
    require_runtime()
    hash_ahead(model_files(model), console, "hashing the merged model")
    if run:
        require_compared(model)
    folders = [arguments.out] if arguments.out else sorted({file.parent for file in files})
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(one_writer(folder / LOCK, shared.BUSY.format(folder)))
        bench = bench_of(model, run, arguments, console)
        checks = _check_all(files, bench, arguments, console)
        for folder in folders:
            here = [
                check
                for file, check in zip(files, checks, strict=True)
                if arguments.out or file.parent == folder
            ]
            write_check(folder, model, model_digest(model) or "", bench, here)
            say(console, escape(f"wrote {folder / 'check.json'}"))
    return 0 if all(check.passed for check in checks) else EXIT_GATE_FAILED


def _check_all(
    files: list[Path], bench: "Bench", arguments: argparse.Namespace, console: Console
) -> list["FileCheck"]:
    checks = []
    for file in files:
        say(console, f"[bold]{escape(file.name)}[/]")
        check = check_one(file, bench, arguments, console)
        show(check, console)
        checks.append(check)
    return checks


def find_files(run: RunFolder | None, given: list[Path] | None) -> list[Path]:
    """The files to check.

    Raises:
        UserError: there are none, or one is no file.
    """
    files = given or (sorted(run.gguf.glob("*.gguf")) if run else [])
    if not files:
        how = f"make them: make gguf RUN={run.called}" if run else "name some with --gguf"
        raise UserError(f"no GGUF file to check; {how}")
    for file in files:
        if not file.is_file():
            kind = "a folder" if file.is_dir() else "nothing"
            raise UserError(f"expected a GGUF file, found {kind} at {file}; name it with --gguf")
    return files


def _model_of(run: RunFolder | None, arguments: argparse.Namespace) -> tuple[Path, str]:
    if run is None:
        return arguments.model, "--model"
    return run.merged, f"--run (its merged model; make merge RUN={run.called} makes it)"


def bench_of(
    model: Path,
    run: RunFolder | None,
    arguments: argparse.Namespace,
    console: Console,
    *,
    calibrate: bool = False,
) -> "Bench":
    """Load the model and let it answer; with `calibrate`, see that questions are left for that."""
    from xmlgrpo_exporter.check.exam import prepare_bench, require_spare
    from xmlgrpo_exporter.check.questions import load_questions
    from xmlgrpo_exporter.check.reference import choose_device

    shared.load_libraries(console)
    questions = load_questions(arguments.data, run)
    if calibrate:
        require_spare(questions, arguments.prompts)
    say(console, escape(f"replies of {model} to compare with ({questions.source})"))
    return prepare_bench(
        model,
        questions,
        task=read_manifest(run).task if run else None,
        prompts=arguments.prompts,
        new_tokens=arguments.new_tokens,
        device=choose_device(arguments.device),
        console=console,
    )


def check_source(
    file: Path, bench: "Bench", arguments: argparse.Namespace, console: Console
) -> "FileCheck":
    """Put the file that others are quantized from through the gates: few replies, own limits.

    A wrong conversion shows here at a distance that would pass for a small type's rounding.
    """
    from xmlgrpo_exporter.check.check import check_file

    few = replace(bench, replies=bench.replies[:SOURCE_REPLIES])
    return check_file(file, few, console, given=GivenLimits(), timeout_s=arguments.timeout_s)


def check_one(
    file: Path,
    bench: "Bench",
    arguments: argparse.Namespace,
    console: Console,
    name: str | None = None,
) -> "FileCheck":
    """Put one file through the gates, with the limits of the arguments."""
    from xmlgrpo_exporter.check.check import check_file

    limits = GivenLimits(arguments.max_kl, arguments.min_top1, arguments.min_identical)
    timeout_s = arguments.timeout_s
    return check_file(file, bench, console, given=limits, timeout_s=timeout_s, name=name)


def show(check: "FileCheck", console: Console) -> None:
    """A line a gate, and the file's answer to the first question."""
    for gate in check.gates:
        verdict = "[green]pass[/]" if gate.passed else "[bold red]FAIL[/]"
        words = Text(gate.numbers() if gate.passed else gate.why)
        say(console, words, head=f"  {verdict} {gate.name:9} ")
    if check.answer:
        say(console, Text(one_line(check.answer, ANSWER_CHARS)), head="  says: ")

"""`xmlgrpo-export gguf`: merge if need be, convert, quantize, check."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_exporter.check.gate import EXIT_GATE_FAILED
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.commands import check as check_command
from xmlgrpo_exporter.commands import merge as merge_command
from xmlgrpo_exporter.convert.quants import FILE_TYPES, parse_quants, require_imatrix_for
from xmlgrpo_rewards.errors import kept_on_interrupt
from xmlgrpo_run.files import write_text
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.screen.say import say

if TYPE_CHECKING:
    from xmlgrpo_exporter.check.exam import Bench
    from xmlgrpo_exporter.convert.files import ExportPlan

TEXT_ONLY = (
    "this model reads images too; the GGUF holds its language model only. The image projector "
    "(mmproj) was not trained and is not exported: take the base model's"
)
GO_ON = "the same command goes on"
NO_TEMPLATE = (
    "{model} has no chat template, so it is exported and checked as a model that continues plain "
    "text. If it is a chat model, put its chat_template.jinja there and export again: without it "
    "every program asks the model in a form it was not trained on"
)


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported, and under which name.

    Attributes:
        run: the run it comes from; None for a model folder from elsewhere.
        model: the folder that is converted; a run's is made first.
        out: where the files go.
        name: their names start with it.
    """

    run: RunFolder | None
    model: Path
    out: Path
    name: str


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "gguf",
        help="merge, convert, quantize and check, in one go",
        description="Write GGUF files of a run (or of a model folder) and put each through the "
        "gates. A file that fails is kept as NAME.gguf.rejected, and the exit code is 3.",
    )
    check_command.add_model(parser)
    parser.add_argument(
        "--quants",
        nargs="+",
        required=True,
        metavar="TYPE",
        help=f"one or more of: {', '.join(FILE_TYPES)}",
    )
    parser.add_argument("--out", type=Path, help="default: RUN/gguf, or MODEL-gguf")
    parser.add_argument(
        "--imatrix",
        action="store_true",
        help="weigh the rounding by which inputs matter in this model's own replies; the files "
        "are named NAME-imat-TYPE.gguf",
    )
    merge_command.add_merge_options(parser)
    check_command.add_gate_options(parser)
    parser.set_defaults(command=command)


@kept_on_interrupt(f"what is finished is kept; {GO_ON}")
def command(arguments: argparse.Namespace) -> int:
    """Export what the arguments name."""
    from xmlgrpo_exporter.convert.converter import find_converter, require_runtime
    from xmlgrpo_run.lock import LOCK, one_writer

    console = shared.console()
    quants = parse_quants(arguments.quants)
    require_imatrix_for(quants, with_imatrix=arguments.imatrix)
    source = _source(arguments)
    require_runtime()
    tree = find_converter(console)
    if source.run:
        code = merge_command.merge_run(source.run, source.model, arguments, console)
        if code:
            return code
    with one_writer(source.out / LOCK, shared.BUSY.format(source.out)):
        return _export(source, quants, tree, arguments, console)


def _source(arguments: argparse.Namespace) -> Source:
    if arguments.run:
        run = find_run(arguments.run)
        read_manifest(run)  # an unfinished run is refused before anything is fetched
        name = run.name
        return Source(run, run.merged, arguments.out or run.gguf, name)
    model = shared.require_folder(arguments.model, "--model").absolute()
    out = arguments.out or model.with_name(f"{model.name}-gguf")
    return Source(None, model, out, model.name)


def _export(
    source: Source,
    quants: tuple[str, ...],
    tree: Path,
    arguments: argparse.Namespace,
    console: Console,
) -> int:
    from xmlgrpo_exporter.convert.files import file_path, plan_export
    from xmlgrpo_exporter.convert.staging import check_model_folder
    from xmlgrpo_run.digests import hash_ahead, model_digest, model_files

    model = source.model
    config = check_model_folder(model)
    with_imatrix = arguments.imatrix
    there = [
        file_path(source.out, source.name, quant, with_imatrix=with_imatrix) for quant in quants
    ]
    hash_ahead([*model_files(model), *filter(Path.is_file, there)], console)
    plan = plan_export(
        model,
        model_digest(model) or "",
        out=source.out,
        name=source.name,
        quants=quants,
        with_imatrix=with_imatrix,
    )
    for quant in plan.done:
        verdict = "failed its last check" if quant in plan.failed else "is up to date"
        say(console, escape(f"{plan.path(quant)} {verdict}"))
    code = EXIT_GATE_FAILED if plan.failed else 0
    if not plan.todo:
        return code
    with kept_on_interrupt(f"no file was made; {GO_ON}"):
        bench = check_command.bench_of(
            model, source.run, arguments, console, calibrate=with_imatrix
        )
    if "vision_config" in config:
        say(console, TEXT_ONLY)
    if not bench.chats:
        say(console, escape(NO_TEMPLATE.format(model=model)))
    return _make(plan, bench, tree, arguments, console) or code


def _make(
    plan: "ExportPlan", bench: "Bench", tree: Path, arguments: argparse.Namespace, console: Console
) -> int:
    from xmlgrpo_exporter.check.record import write_check
    from xmlgrpo_exporter.convert.files import file_maker
    from xmlgrpo_exporter.convert.modelfile import llama_cpp_line, modelfile, ollama_line, system_of

    system = system_of(bench.chats[0]) if bench.chats else ""
    tokenizer, stops = bench.reference.tokenizer, bench.reference.stop_ids
    checks = []
    imatrix = _imatrix(plan, bench, arguments, console) if arguments.imatrix else None
    brings_bos = bench.brings_bos
    with file_maker(plan, tree, imatrix, console, prompts_bring_bos=brings_bos) as maker:
        if plan.quantized:
            with kept_on_interrupt(f"no file was made; {GO_ON}"):
                source = check_command.check_source(maker.lossless(), bench, arguments, console)
            write_check(plan.out, plan.model, plan.fingerprint, bench, (), source=source)
            verdict = "passes every gate" if source.passed else "is not the model: nothing is made"
            say(console, f"{plan.exact}, which the others are quantized from, {verdict}")
            if not source.passed:
                check_command.show(source, console)
                return EXIT_GATE_FAILED
        for count, quant in enumerate(plan.todo):
            with kept_on_interrupt(f"{count} of {len(plan.todo)} files are made and kept; {GO_ON}"):
                made = maker.write(quant)
                name = plan.path(quant).name
                check = check_command.check_one(made, bench, arguments, console, name)
                checks.append(check)
                # before the rename: a file under its final name always has its entry
                write_check(plan.out, plan.model, plan.fingerprint, bench, checks)
                text = modelfile(name, tokenizer, stops, system)
                kept_as = _keep(made, plan.path(quant), text, passed=check.passed)
            say(console, f"[bold]{escape(str(kept_as))}[/]")
            check_command.show(check, console)
    good = [check.file for check in checks if check.passed]
    if good:
        asked = bench.example
        line = llama_cpp_line(str(plan.out / good[0]), system, asked, chat=bool(bench.chats))
        console.print(f"\nwith llama.cpp:\n{line}", markup=False)
        console.print(f"with Ollama:\n{ollama_line(plan.out, good[0], asked)}", markup=False)
    return 0 if len(good) == len(checks) else EXIT_GATE_FAILED


def _keep(made: Path, final: Path, text: str, *, passed: bool) -> Path:
    """Give a file its final name, with a Modelfile of this text, or the name of a rejected one."""
    rejected = final.with_name(f"{final.name}.rejected")
    if not passed:
        return made.rename(rejected)
    write_text(final.with_suffix(".Modelfile"), text)
    rejected.unlink(missing_ok=True)
    return made.rename(final)


def _imatrix(
    plan: "ExportPlan", bench: "Bench", arguments: argparse.Namespace, console: Console
) -> Path | None:
    from xmlgrpo_exporter.convert.imatrix import write_imatrix

    if not plan.quantized:
        return None
    path = plan.out / f"{plan.name}.imatrix.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = write_imatrix(bench.reference, bench.spare(), arguments.new_tokens, path, console)
    say(console, escape(f"importance matrix from {tokens} tokens of {bench.source}: {path}"))
    return path

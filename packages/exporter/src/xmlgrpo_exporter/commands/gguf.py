"""`xmlgrpo-export gguf`: merge if need be, convert, quantize, check."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_exporter.check.check_json import EXIT_GATE_FAILED, show_check, write_check
from xmlgrpo_exporter.check.gates import check_file, check_source
from xmlgrpo_exporter.check.questions import system_of
from xmlgrpo_exporter.check.reference import Reference, answer_questions
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.commands.merge import read_merge
from xmlgrpo_exporter.convert.converter import convert, find_converter, require_runtime
from xmlgrpo_exporter.convert.export_plan import Export, Plan, plan_export, quantize, working_folder
from xmlgrpo_exporter.convert.imatrix import require_calibration, write_imatrix
from xmlgrpo_exporter.convert.modelfile import llama_cpp_line, ollama_line
from xmlgrpo_exporter.convert.staging import check_model_folder, stage
from xmlgrpo_exporter.merge.merge import BUSY, Merge, merge_run
from xmlgrpo_exporter.quants import (
    CONVERTER_TYPES,
    FILE_TYPES,
    estimated_bytes,
    parse_quants,
)
from xmlgrpo_exporter.transformers_model import SourceModel, hash_model
from xmlgrpo_rewards.console_script import kept_on_interrupt, path_argument
from xmlgrpo_run.files import read_json, write_text
from xmlgrpo_run.lock import LOCK, one_writer
from xmlgrpo_run.screen.progress import growing
from xmlgrpo_run.screen.say import say

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


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "gguf",
        help="merge, convert, quantize and check, in one go",
        description="Write GGUF files of a run (or of a model folder) and put each through the "
        "gates. A file that fails is kept as NAME.gguf.rejected, and the exit code is 3.",
    )
    shared.add_source(parser)
    parser.add_argument(
        "--quants",
        nargs="+",
        required=True,
        metavar="TYPE",
        help=f"one or more of: {', '.join(FILE_TYPES)}",
    )
    parser.add_argument("--out", type=path_argument, help="default: RUN/gguf, or MODEL-gguf")
    parser.add_argument(
        "--imatrix",
        action="store_true",
        help="weigh the rounding by which inputs matter in this model's own replies; the files "
        "are named NAME-imat-TYPE.gguf",
    )
    shared.add_merge_options(parser)
    shared.add_comparison(parser)
    shared.add_limits(parser)
    parser.set_defaults(command=command)


@kept_on_interrupt(f"what is finished is kept; {GO_ON}")
def command(arguments: argparse.Namespace) -> int:
    """Export what the arguments name."""
    console = shared.console()
    origin, export = _read(arguments, console)
    require_runtime()
    tree = find_converter(console)
    model = merge_run(origin) if isinstance(origin, Merge) else hash_model(origin, console)
    if model is None:
        return EXIT_GATE_FAILED
    with one_writer(export.out / LOCK, BUSY.format(export.out)):
        return _export(export, model, tree)


def _read(arguments: argparse.Namespace, console: Console) -> tuple[Merge | Path, Export]:
    """Where the model is from, a merge or a folder, and the export that is asked for."""
    quants = parse_quants(arguments.quants, with_imatrix=arguments.imatrix)
    origin: Merge | Path
    if arguments.run:
        origin = read_merge(arguments, None, console)
        name, out, comparison = origin.run.name, origin.run.gguf, origin.comparison
    else:
        origin = shared.require_folder(arguments.model, "--model").absolute()
        check_model_folder(origin)
        name, out = origin.name, origin.with_name(f"{origin.name}-gguf")
        comparison = shared.read_comparison(arguments, console)
    if arguments.imatrix:
        require_calibration(comparison)
    return origin, Export(arguments.out or out, name, quants, arguments.imatrix, comparison)


def _export(export: Export, model: SourceModel, tree: Path) -> int:
    """Make and check what is missing; the exit code."""
    console = export.comparison.console
    plan = plan_export(export, model)
    for quant, passed in plan.there.items():
        verdict = "is up to date" if passed else "failed its last check"
        say(console, escape(f"{export.path(quant)} {verdict}"))
    code = 0 if all(plan.there.values()) else EXIT_GATE_FAILED
    if not plan.todo:
        return code
    with kept_on_interrupt(f"no file was made; {GO_ON}"):
        reference = answer_questions(model, export.comparison)
    if "vision_config" in read_json(model.folder / "config.json"):
        say(console, TEXT_ONLY)
    if not reference.chats:
        say(console, escape(NO_TEMPLATE.format(model=model.folder)))
    with working_folder(export.out) as work:
        return _make_files(export, plan, reference, tree, work) or code


def _make_files(export: Export, plan: Plan, reference: Reference, tree: Path, work: Path) -> int:
    """Make each file, check it, and give it its name: its own, or that of a rejected one."""
    console, bos = export.comparison.console, reference.prompts_have_bos
    imatrix = None
    if export.with_imatrix and plan.quantized:
        imatrix = export.out / f"{export.name}.imatrix.npz"
        tokens, source = write_imatrix(reference, imatrix), export.comparison.questions.source
        say(console, escape(f"importance matrix from {tokens} tokens of {source}: {imatrix}"))
    staged = stage(reference.source.folder, work / "staged", prompts_have_bos=bos)
    exact = work / "exact.gguf"

    def make(quant: str, path: Path) -> Path:
        by_converter = quant in CONVERTER_TYPES
        words = f"{'converting' if by_converter else 'quantizing'} to {quant}"
        with growing(console, words, estimated_bytes(quant, plan.weights), lambda: [path]):
            if by_converter:
                convert(tree, staged, path, quant, export.name)
            else:
                quantize(exact, path, quant, imatrix)
        return path

    if plan.quantized:
        with kept_on_interrupt(f"no file was made; {GO_ON}"):
            first = check_source(make(plan.exact, exact), reference)
        write_check(export.out, reference.as_json(), (), source=first)
        verdict = "passes every gate" if first.passed else "is not the model: nothing is made"
        say(console, f"{plan.exact}, which the others are quantized from, {verdict}")
        if not first.passed:
            show_check(first, console)
            return EXIT_GATE_FAILED
    example = reference.comparison.answered[reference.shortest]
    asked = reference.comparison.chats([example])[0]
    checks = []
    for count, quant in enumerate(plan.todo):
        final = export.path(quant)
        with kept_on_interrupt(f"{count} of {len(plan.todo)} files are made and kept; {GO_ON}"):
            made = make(quant, work / final.name)
            check = check_file(made, reference)
            checks.append(check)
            # before the rename: a file under its final name always has its entry
            write_check(export.out, reference.as_json(), checks)
            kept_as = _keep(made, final, check.modelfile, passed=check.passed)
        say(console, f"[bold]{escape(str(kept_as))}[/]")
        show_check(check, console)
    if good := [check.file for check in checks if check.passed]:
        file, chat = str(export.out / good[0]), bool(reference.chats)
        told = reference.chats[reference.shortest] if chat else []
        question = told[-1]["content"] if chat else example
        line = llama_cpp_line(file, system_of(told), question, chat=chat)
        console.print(f"\nwith llama.cpp:\n{line}", markup=False)
        question = asked[-1]["content"] if chat else example
        line = ollama_line(export.out, good[0], question)
        console.print(f"with Ollama:\n{line}", markup=False)
    return 0 if len(good) == len(checks) else EXIT_GATE_FAILED


def _keep(made: Path, final: Path, text: str, *, passed: bool) -> Path:
    """Give a file its final name, with a Modelfile if it has one, or that of a rejected one."""
    rejected = final.with_name(f"{final.name}.rejected")
    if not passed:
        return made.rename(rejected)
    if text:
        write_text(final.with_suffix(".Modelfile"), text)
    rejected.unlink(missing_ok=True)
    return made.rename(final)

"""`xmlgrpo-export gguf`: merge if need be, convert, quantize, check."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.commands import check as check_command
from xmlgrpo_exporter.commands import merge as merge_command
from xmlgrpo_exporter.commands.progress import file_watcher
from xmlgrpo_exporter.gate import EXIT_GATE_FAILED
from xmlgrpo_exporter.quant_types import FILE_TYPES, parse_quants
from xmlgrpo_rewards.run_folder import RunFolder, write_text

if TYPE_CHECKING:
    from xmlgrpo_exporter.bench import Bench
    from xmlgrpo_exporter.gguf import ExportPlan


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


def command(arguments: argparse.Namespace) -> int:
    """Export what the arguments name."""
    from xmlgrpo_exporter.converter import require_runtime
    from xmlgrpo_exporter.fingerprint import fingerprint
    from xmlgrpo_exporter.gguf import plan_export
    from xmlgrpo_exporter.staging import check_model_folder

    console = shared.console()
    quants = parse_quants(arguments.quants)
    require_runtime()
    if arguments.run:
        run = RunFolder(arguments.run)
        code = merge_command.merge_run(run, run.merged, arguments, console)
        if code:
            return code
        model, out, name = run.merged, run.gguf, run.root.absolute().name
    else:
        run, model = None, shared.require_folder(arguments.model, "--model").absolute()
        out, name = model.with_name(f"{model.name}-gguf"), model.name
    check_model_folder(model)
    plan = plan_export(
        model,
        fingerprint(model),
        out=arguments.out or out,
        name=name,
        quants=quants,
        with_imatrix=arguments.imatrix,
    )
    for quant in plan.done:
        console.print(f"{plan.path(quant)} is up to date")
    if not plan.todo:
        return 0
    bench = check_command.bench_of(model, run, arguments, console)
    return _export(plan, bench, arguments, console)


def _export(
    plan: "ExportPlan", bench: "Bench", arguments: argparse.Namespace, console: Console
) -> int:
    from xmlgrpo_exporter.check_record import write_check
    from xmlgrpo_exporter.gguf import file_writer
    from xmlgrpo_exporter.usage import llama_cpp_line, modelfile, system_of

    system = system_of(bench.chats[0])
    tokenizer, stops = bench.reference.tokenizer, bench.reference.stop_ids
    checks = []
    imatrix = _imatrix(plan, bench, arguments, console) if arguments.imatrix else None
    with file_writer(plan, imatrix, file_watcher(console), console.print) as write:
        for quant in plan.todo:
            final = plan.path(quant)
            partial = final.with_name(f".{final.name}.partial")
            rejected = final.with_name(f"{final.name}.rejected")
            try:
                write(quant, partial)
                check = check_command.check_one(partial, bench, arguments, final.name)
                checks.append(check)
                # before the rename: a file under its final name always has its entry
                write_check(plan.out, plan.model, plan.fingerprint, bench, checks)
                if check.passed:
                    text = modelfile(final.name, tokenizer, stops, system)
                    write_text(final.with_suffix(".Modelfile"), text)
                    partial.rename(final)
                    rejected.unlink(missing_ok=True)
                else:
                    partial.rename(rejected)
            finally:
                partial.unlink(missing_ok=True)
            console.print(f"[bold]{final if check.passed else rejected}[/]")
            check_command.show(check, console)
    good = [check.file for check in checks if check.passed]
    if good:
        console.print("\nwith llama.cpp:  ", end="")
        console.print(llama_cpp_line(str(plan.out / good[0]), system), markup=False)
        console.print(f"with Ollama:     cd {plan.out} && ollama create NAME -f FILE.Modelfile")
    return 0 if len(good) == len(checks) else EXIT_GATE_FAILED


def _imatrix(
    plan: "ExportPlan", bench: "Bench", arguments: argparse.Namespace, console: Console
) -> Path | None:
    from xmlgrpo_exporter.imatrix import write_imatrix

    if not plan.quantized:
        return None
    path = plan.out / f"{plan.name}.imatrix.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = write_imatrix(bench.reference, bench.spare(), arguments.new_tokens, path)
    console.print(f"importance matrix from {tokens} tokens of {bench.source}: {path}")
    return path

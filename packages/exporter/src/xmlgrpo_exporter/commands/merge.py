"""`xmlgrpo-export merge`: the adapter into its 16-bit base, checked against it."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from xmlgrpo_exporter.check.gate import EXIT_GATE_FAILED
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_rewards.errors import kept_on_interrupt
from xmlgrpo_run.folder import RunFolder, find_run
from xmlgrpo_run.manifest import Manifest, read_manifest
from xmlgrpo_run.screen.hub_log import quiet_retries
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "merge",
        help="merge the adapter into its base, and compare both",
        description="Merge a run's adapter into its pristine 16-bit (or 32-bit) base, save "
        "safetensors, load them again and compare the answers. Exit code 3: they differ.",
    )
    parser.add_argument("--run", required=True, help=shared.RUN_HELP)
    parser.add_argument("--out", type=Path, help="default: RUN/merged")
    add_merge_options(parser)
    shared.add_comparison(parser)
    parser.set_defaults(command=command)


def add_merge_options(parser: argparse.ArgumentParser) -> None:
    """Add how to merge; `gguf` merges too when that has not been done."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the merged weights (default: what the run was trained in)",
    )
    parser.add_argument("--base", help="use this base model instead of the manifest's")


def command(arguments: argparse.Namespace) -> int:
    """Merge the run of the arguments."""
    run = find_run(arguments.run)
    return merge_run(run, arguments.out or run.merged, arguments, shared.console())


def merge_run(run: RunFolder, out: Path, arguments: argparse.Namespace, console: Console) -> int:
    """Merge a run into `out`, unless that is done.

    Raises:
        UserError: the run is not finished, its base or adapter cannot be used, `out` holds
            something else, or another process is merging into it.
    """
    from xmlgrpo_run.lock import one_writer

    manifest = read_manifest(run)
    with (
        kept_on_interrupt("nothing was merged; the same command merges from the start"),
        one_writer(out.with_name(f".{out.name}.lock"), shared.BUSY.format(out.parent)),
    ):
        return _merge_run(run, manifest, out, arguments, console)


def _merge_run(
    run: RunFolder,
    manifest: Manifest,
    out: Path,
    arguments: argparse.Namespace,
    console: Console,
) -> int:
    from xmlgrpo_exporter.check.conversations import conversations
    from xmlgrpo_exporter.check.questions import load_questions
    from xmlgrpo_exporter.check.reference import choose_device
    from xmlgrpo_exporter.merge import merge
    from xmlgrpo_exporter.merge.adapter import read_adapter
    from xmlgrpo_exporter.merge.base import base_of, check_base, choose_dtype
    from xmlgrpo_exporter.merge.record import up_to_date
    from xmlgrpo_run.digests import hash_ahead, model_digest, model_files
    from xmlgrpo_run.files import replacing

    adapter = read_adapter(run.adapter)
    base = base_of(run, manifest, arguments.base)
    quiet_retries()
    with Stage(console, "looking at the base model"):
        config = check_base(base)
    dtype = choose_dtype(arguments.dtype, base, str(config.get("model_type", "")))
    source = {
        "adapter": model_digest(run.adapter),
        "base": arguments.base or manifest.base.name,  # its name, wherever it lies now
        "revision": base.revision,
        "dtype": dtype,
    }
    hash_ahead(model_files(out), console, "hashing the merged model")
    if up_to_date(out, source, any_dtype=arguments.dtype == "auto"):
        say(console, escape(f"{out} is up to date"))
        return 0
    asked = load_questions(arguments.data, run)
    shared.load_libraries(console, "peft")
    with replacing(out) as partial:
        partial.mkdir()
        gate = merge.merge(
            adapter=adapter,
            base=base,
            dtype=dtype,
            partial=partial,
            out=out,
            source=source,
            conversations=conversations(asked.texts[: arguments.prompts], manifest.task),
            asked_source=asked.source,
            new_tokens=arguments.new_tokens,
            device=choose_device(arguments.device),
            console=console,
        )
    say(console, escape(f"adapter against merged, {asked.source}: {gate.numbers()}"))
    if base.trained_in_4bit:
        say(
            console,
            "trained on 4-bit weights: the adapter never saw this 16-bit base, so measure the "
            f"merged model as well: make ladder RUN={run.called}",
        )
    if not gate.passed:
        why = escape(f"{gate.why} (kept as {out}.rejected)")
        say(console, why, head="[bold red]refused[/]: ")
        return EXIT_GATE_FAILED
    say(console, escape(f"wrote {out}"))
    return 0

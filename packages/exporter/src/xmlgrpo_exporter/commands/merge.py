"""`xmlgrpo-export merge`: the adapter into its 16-bit base, checked against it."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_exporter.check.check_json import EXIT_GATE_FAILED
from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_exporter.merge.merge import Merge, merge_run
from xmlgrpo_rewards.console_script import path_argument
from xmlgrpo_run.folder import find_run
from xmlgrpo_run.manifest import read_manifest


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "merge",
        help="merge the adapter into its base, and compare both",
        description="Merge a run's adapter into its pristine 16-bit (or 32-bit) base, save "
        "safetensors, load them again and compare the answers. Exit code 3: they differ.",
    )
    parser.add_argument("--run", required=True, help=shared.RUN_HELP)
    parser.add_argument("--out", type=path_argument, help="default: RUN/merged")
    shared.add_merge_options(parser)
    shared.add_comparison(parser)
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Merge the run of the arguments."""
    merge = read_merge(arguments, arguments.out, shared.console())
    return 0 if merge_run(merge) else EXIT_GATE_FAILED


def read_merge(arguments: argparse.Namespace, out: Path | None, console: Console) -> Merge:
    """The merge that the arguments ask for, into the run's own folder where `out` is None."""
    run = find_run(arguments.run)
    manifest = read_manifest(run)
    comparison = shared.read_comparison(arguments, console, run, manifest)
    out = out or run.merged
    return Merge(run, manifest, out, arguments.base, arguments.dtype, comparison)

"""Arguments that several subcommands share, what is read of them, and the console."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from xmlgrpo_exporter.check.questions import ANSWER_TIMEOUT_S, Comparison, load_questions
from xmlgrpo_exporter.quants import Limits
from xmlgrpo_rewards.console_script import path_argument, within
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import DEFAULT_TASK
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import Manifest
from xmlgrpo_run.screen.console import guarded

MOST = 1_000_000_000  # of anything that is counted
RUN_HELP = "the run: its name under outputs/, or its folder"


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what is exported: a run, or a model folder from elsewhere."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", help=RUN_HELP)
    source.add_argument(
        "--model", type=path_argument, help="a folder with safetensors and tokenizer.json"
    )


def add_merge_options(parser: argparse.ArgumentParser) -> None:
    """Add how to merge; `gguf` merges too when that has not been done."""
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the merged weights (default: what the run was trained in)",
    )
    parser.add_argument("--base", help="use this base model instead of the manifest's")


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add what every comparison of two models needs."""
    parser.add_argument(
        "--data",
        type=path_argument,
        metavar="PATH",
        help="rows with a question, or a folder with a test split (default: the run's held-out "
        "problems, then its task's, such as $GSM8K_DIR, then a built-in list)",
    )
    parser.add_argument(
        "--prompts",
        type=within(1, MOST),
        default=16,
        metavar="N",
        help="questions that both sides answer (default: %(default)s)",
    )
    parser.add_argument(
        "--new-tokens",
        type=within(1, MOST),
        default=64,
        metavar="N",
        help="longest reply that is compared, in tokens (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the limits of the gates; each is named as a field of `Limits`."""
    limits = parser.add_argument_group("limits, instead of those of the file's type")
    limits.add_argument("--max-kl", dest="mean_kl", type=within(0.0, 1000.0), metavar="NATS")
    limits.add_argument("--min-top1", dest="top1", type=within(0.0, 1.0), metavar="SHARE")
    limits.add_argument(
        "--min-identical", dest="greedy_identical", type=within(0.0, 1.0), metavar="SHARE"
    )
    limits.add_argument(
        "--timeout-s",
        type=within(1, MOST),
        default=ANSWER_TIMEOUT_S,
        help="longest time a file may take to answer (default: %(default)s)",
    )


def read_comparison(
    arguments: argparse.Namespace,
    console: Console,
    run: RunFolder | None = None,
    manifest: Manifest | None = None,
) -> Comparison:
    """What is asked, and how, by the arguments; of a run, its own problems in its task's words."""
    given: dict[str, Any] = vars(arguments)
    limits = {field.name: given.get(field.name) for field in fields(Limits)}
    return Comparison(
        load_questions(arguments.data, run, manifest.task if manifest else DEFAULT_TASK),
        console,
        prompts=arguments.prompts,
        new_tokens=arguments.new_tokens,
        task=manifest.task if manifest else None,
        device=arguments.device,
        limits={name: limit for name, limit in limits.items() if limit is not None},
        timeout_s=given.get("timeout_s", ANSWER_TIMEOUT_S),
    )


def require_folder(path: Path, option: str) -> Path:
    """The folder itself; a UserError that names the option where there is none."""
    if not path.is_dir():
        raise UserError(f"{option}: expected a folder, got none at {path}")
    return path


def console() -> Console:
    """Colour on a terminal, plain text in a pipe; long lines stay whole."""
    return guarded(Console(highlight=False, soft_wrap=True))

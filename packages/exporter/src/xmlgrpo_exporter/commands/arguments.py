"""Arguments that several subcommands share, and the console they write to."""

import argparse
from importlib import import_module
from pathlib import Path

from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.hub_log import quiet_retries
from xmlgrpo_run.screen.loading import reading_libraries

DEFAULT_PROMPTS = 16
DEFAULT_NEW_TOKENS = 64
LIBRARY_MODULES = 4100  # about: what torch, transformers and peft consist of, as locked
BUSY = "another export is writing into {}; wait for it, or give another --out"
RUN_HELP = "the run: its name under outputs/, or its folder"


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Add what every comparison of two models needs."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="JSONL of questions, or a folder with test.jsonl (default: the run's held-out "
        "problems, then $GSM8K_DIR, then a built-in list)",
    )
    parser.add_argument(
        "--prompts",
        type=positive,
        default=DEFAULT_PROMPTS,
        metavar="N",
        help="questions that both sides answer (default: %(default)s)",
    )
    parser.add_argument(
        "--new-tokens",
        type=positive,
        default=DEFAULT_NEW_TOKENS,
        metavar="N",
        help="longest reply that is compared, in tokens (default: %(default)s)",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return number


def require_folder(path: Path, option: str) -> Path:
    """The folder itself.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        raise UserError(f"{option}: expected a folder, found none at {path}")
    return path


def console() -> Console:
    """Colour on a terminal, plain text in a pipe; long lines stay whole."""
    return Console(highlight=False, soft_wrap=True)


def load_libraries(console: Console, *needed: str) -> None:
    """Import what takes long to import, and take transformers' bars away: a stage has one, ours."""
    quiet_retries()
    with reading_libraries(console, LIBRARY_MODULES):
        for name in ("transformers.models.auto.modeling_auto", *needed):
            import_module(name)
        from transformers.utils import logging

        logging.disable_progress_bar()

"""`xmlgrpo-export push`: publish a run's adapter, merged weights and GGUF files on the Hub."""

import argparse
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from xmlgrpo_exporter.commands import arguments as shared
from xmlgrpo_rewards.console_script import kept_on_interrupt
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen.console import quiet_retries
from xmlgrpo_run.screen.say import say

PUBLIC_HUB = "https://huggingface.co"
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "push",
        help="publish on the Hugging Face Hub, private unless --public",
        description="Publish a run with a card whose every number names its file. The token comes "
        "from HF_TOKEN or `.venv/bin/hf auth login`; HF_ENDPOINT names another hub than "
        "huggingface.co.",
    )
    parser.add_argument("--run", required=True, help=f"{shared.RUN_HELP}; or a folder of files")
    parser.add_argument("--repo", required=True, help="owner/name")
    what = "adapter, merged, gguf, base; default: what there is"
    parser.add_argument("--what", nargs="+", metavar="ARTEFACT", help=what)
    parser.add_argument("--revision", default="main", help="branch to publish to (default: main)")
    parser.add_argument("--public", action="store_true", help="everybody may see it")
    parser.add_argument("--dry-run", action="store_true", help="show what would go; send nothing")
    parser.add_argument("--base-id", help="the base model on the Hub, where the run does not say")
    parser.add_argument(
        "--prune", action="store_true", help="delete model files there that are not published now"
    )
    parser.add_argument(
        "--ungated",
        action="store_true",
        help="publish although a gate never ran; the card says so. A failed gate always refuses",
    )
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Publish, or with --dry-run show what would be published."""
    console = shared.console()
    _set_up_client(console)
    with kept_on_interrupt("nothing was uploaded; the same command starts again"):
        from huggingface_hub import HfApi  # reads the environment when it is imported

        from xmlgrpo_exporter.publish.push import push

        return push(arguments, HfApi(), console)


def _set_up_client(console: Console) -> None:
    """Settings that the client reads when it is imported, unless the user chose them.

    Plain LFS on hubs other than huggingface.co: the client takes Xet wherever hf_xet is installed,
    and does not fall back where the hub has none.  No bars in a pipe, and one line about a hub that
    does not answer.
    """
    quiet_retries()
    if not (sys.stderr.isatty() and console.is_interactive):
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    endpoint = os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/")
    url = urlsplit(endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError(f"HF_ENDPOINT: expected https://HOST, got {endpoint!r}")
    if url.scheme == "http" and url.hostname not in THIS_MACHINE:
        words = f"caution: {endpoint} is not https, so the token is sent unencrypted"
        say(console, Text(words))
    if endpoint != PUBLIC_HUB and "HF_HUB_DISABLE_XET" not in os.environ:
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        words = f"{endpoint}: files go by LFS (HF_HUB_DISABLE_XET=0 for a hub with Xet)"
        say(console, Text(words))

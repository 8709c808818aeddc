"""How the tests publish: in this process, or as a user does."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from rich.console import Console

from hub_server import Hub
from xmlgrpo_exporter.cli import parser
from xmlgrpo_exporter.publish.push import push

WRITE = "hf_CANARYwriteCANARYwriteCANARY12"
READ = "hf_CANARYreadCANARYreadCANARY3456"
REPO = "alice/gsm8k-1b"

MARKS = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    # huggingface_hub 1.33 hands httpx its LFS contents in the old way
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def publish(hub: Hub, run: Path, *options: str, repo: str = REPO) -> tuple[int, str]:
    """Run `push` in this process; returns the exit code and what it printed."""
    words = ["push", "--run", str(run), "--repo", repo, *options]
    arguments = parser().parse_args(words)
    screen = io.StringIO()
    code = push(arguments, HfApi(endpoint=hub.url), Console(file=screen, width=200))
    return code, screen.getvalue()


def command(*words: str) -> list[str]:
    """The words of `xmlgrpo-export push` with this interpreter."""
    return [sys.executable, "-c", "from xmlgrpo_exporter.cli import main; main()", "push", *words]


def user_environment(url: str, home: Path, token: str = WRITE, **more: str) -> dict[str, str]:
    """What a user has in the environment: a hub, a token, and a place for the client's files."""
    inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return inherited | {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(home), **more}


def cli(
    url: str, *words: str, home: Path, token: str = WRITE, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run `xmlgrpo-export push` as a user would, the token in the environment."""
    return subprocess.run(
        command(*words),
        env=user_environment(url, home, token, **more),
        capture_output=True,
        timeout=120,
        check=False,
    )


def puts(hub: Hub) -> list[str]:
    """The requests so far that brought a content by LFS."""
    return [write for write in hub.writes() if write.startswith("PUT")]

"""`--version`, the same for every console script: the packages are released together."""

import argparse
from importlib.metadata import version


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let `parser` answer `--version` with `xmlgrpo-train 0.1.0`."""
    text = f"%(prog)s {version('xmlgrpo-rewards')}"
    parser.add_argument("--version", action="version", version=text)

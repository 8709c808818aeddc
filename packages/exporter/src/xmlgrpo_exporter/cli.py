"""`xmlgrpo-export`: one subcommand per stage of the way out, one module per subcommand.

A module under `xmlgrpo_exporter.commands` has one function, `add_parser(subparsers)`, which adds
its parser and sets `command` (a function of the parsed arguments that returns the exit code).
Those modules import nothing heavy at the top, so that `--help` answers at once.
"""

import argparse
from importlib import import_module

from xmlgrpo_gguf.threads import let_threads_sleep
from xmlgrpo_rewards.console_script import add_version, run_command

SUBCOMMANDS = ("merge", "gguf", "check", "push")


def parser() -> argparse.ArgumentParser:
    """The command line, with every subcommand."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-export",
        description="How the model leaves: merged weights, GGUF files, and proof that they are "
        "the model that was trained.",
    )
    add_version(made)
    subparsers = made.add_subparsers(required=True, metavar="COMMAND")
    for name in SUBCOMMANDS:
        import_module(f"xmlgrpo_exporter.commands.{name}").add_parser(subparsers)
    return made


def main() -> None:
    """Entry point of the console script."""
    let_threads_sleep()
    run_command(run)


def run() -> int | None:
    """Parse the command line, run the subcommand, return the exit code."""
    arguments = parser().parse_args()
    code: int | None = arguments.command(arguments)
    return code

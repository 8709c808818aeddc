"""`xmlgrpo-report`: one page about a run."""

import argparse

from xmlgrpo_rewards.console_script import (
    add_version,
    for_stdout,
    kept_on_interrupt,
    run_command,
)
from xmlgrpo_run.folder import find_run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-report",
        description="Write report.html into a run's folder: one file with everything in it, of a "
        "run that trains, has stopped or is finished.",
    )
    add_version(made)
    made.add_argument(
        "--run", required=True, metavar="RUN", help="its folder, or its name under outputs/"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line, write the page."""
    arguments = parser().parse_args()
    folder = find_run(arguments.run)
    from rich.console import Console

    from xmlgrpo_run.screen.console import guarded
    from xmlgrpo_run.screen.progress import Stage
    from xmlgrpo_viewer.page.report import write_report

    with (
        kept_on_interrupt("no report was written; the same command writes it"),
        Stage(guarded(Console(stderr=True)), "writing the report"),
    ):
        write_report(folder)
    print(for_stdout(str(folder.report)))


if __name__ == "__main__":
    main()

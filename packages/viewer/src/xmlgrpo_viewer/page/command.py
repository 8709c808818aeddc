"""`xmlgrpo-report`: one page about a run."""

import argparse

from xmlgrpo_rewards.console_script import (
    add_version,
    for_stdout,
    kept_on_interrupt,
    run_command,
)
from xmlgrpo_run.folder import find_run


def main() -> None:
    """The console script."""
    run_command(_run)


def _run() -> None:
    parser = argparse.ArgumentParser(
        prog="xmlgrpo-report",
        description="Write report.html into a run's folder: one file with everything in it, of a "
        "run that trains, has stopped or is finished.",
    )
    add_version(parser)
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="its folder, or its name under outputs/"
    )
    run = find_run(parser.parse_args().run)
    from rich.console import Console

    from xmlgrpo_run.screen.console import guarded
    from xmlgrpo_run.screen.progress import Stage
    from xmlgrpo_viewer.page.report import write_report

    with (
        kept_on_interrupt("no report was written; the same command writes it"),
        Stage(guarded(Console(stderr=True)), "writing the report"),
    ):
        write_report(run)
    print(for_stdout(str(run.report)))


if __name__ == "__main__":
    main()

"""`xmlgrpo-compare`: runs on the same held-out problems, as tables, a page and JSON."""

import argparse
import json
from pathlib import Path

from xmlgrpo_rewards.console_script import (
    add_version,
    for_stdout,
    path_argument,
    run_command,
)
from xmlgrpo_run.folder import OUTPUTS, find_run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-compare",
        description="Compare finished runs on the held-out problems that all of them were asked: "
        "each share with its interval, each pair with its test, seeds of one configuration as a "
        "group. Writes a page, too.",
    )
    add_version(made)
    made.add_argument(
        "--runs", required=True, nargs="+", metavar="RUN", help="folders, or names under outputs/"
    )
    made.add_argument("--json", action="store_true", help="for machines; writes no page")
    made.add_argument(
        "--out", type=path_argument, metavar="FILE", help="the page (outputs/compare-….html)"
    )
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line, compare, show and write."""
    arguments = parser().parse_args()
    runs = [find_run(name) for name in arguments.runs]
    from xmlgrpo_viewer.compare.compared import as_json, compare_runs

    compared = compare_runs(runs)
    if arguments.json:
        print(for_stdout(json.dumps(as_json(compared), indent=2, ensure_ascii=False)))
        return
    from xmlgrpo_run.files import write_text
    from xmlgrpo_run.screen.console import make_console
    from xmlgrpo_run.screen.say import say
    from xmlgrpo_viewer.compare.show import page, place_of, show

    console = make_console()
    show(compared, console)
    place: Path = arguments.out or place_of([run.name for run in runs], OUTPUTS)
    write_text(place, page(compared, place))
    say(console, f"the page is {place}")


if __name__ == "__main__":
    main()

"""`xmlgrpo-doctor`: is this machine ready, and is that run healthy?"""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from xmlgrpo_rewards.console_script import add_version, for_stdout, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import find_run
from xmlgrpo_trainer.doctor.finding import Finding, show

EXIT_BAD = 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-doctor",
        description="Look at this machine and, with --run, at a run: what is healthy, what is not, "
        "and what to do.",
        epilog="Exit code 1: something is bad.",
    )
    add_version(made)
    made.add_argument("--run", help="a run, finished or not: its name (under outputs/) or folder")
    made.add_argument("--json", action="store_true", help="for machines")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> int:
    """Parse the command line, check, print; 1 when something is bad."""
    arguments = parser().parse_args()
    from xmlgrpo_run.metrics import read_log
    from xmlgrpo_trainer.doctor.run import check_run

    sections: dict[str, Iterable[Finding]] = {}
    if arguments.run:
        folder = find_run(arguments.run)
        if not folder.metrics.is_file():  # said before the machine is looked at
            raise UserError(
                f"there is no {str(folder.metrics)!r}; expected the folder of a run that has "
                "logged a step"
            )
        sections[f"run {folder.root}"] = check_run(read_log(folder.metrics))
    from xmlgrpo_run.screen.console import make_console, quiet_libraries
    from xmlgrpo_trainer.doctor.machine import check_machine

    quiet_libraries()
    sections = {"machine": check_machine(Path.cwd()), **sections}
    console = None if arguments.json else make_console()
    found = {
        title: list(findings if console is None else show(title, findings, console))
        for title, findings in sections.items()
    }
    if arguments.json:
        plain = {title: list(map(dataclasses.asdict, part)) for title, part in found.items()}
        print(for_stdout(json.dumps(plain, indent=2, ensure_ascii=False)))
    return EXIT_BAD if any(one.level == "bad" for part in found.values() for one in part) else 0


if __name__ == "__main__":
    main()

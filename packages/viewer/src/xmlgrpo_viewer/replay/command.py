"""`xmlgrpo-rescore`: what a run would have been paid."""

import argparse
import json
import sys
from collections.abc import Sequence

from xmlgrpo_rewards.console_script import add_version, for_stdout, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import find_run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-rescore",
        description="Pay the kept completions of a run by other rewards: what would training have "
        "been told? Nothing in the run is changed.",
    )
    add_version(made)
    made.add_argument(
        "--run", required=True, metavar="RUN", help="its folder, or its name under outputs/"
    )
    made.add_argument(
        "--rewards",
        nargs="+",
        default=[],
        metavar="NAME=WEIGHT",
        help="as `rewards:` in a configuration; without any, the run's own, by today's grader",
    )
    made.add_argument("--json", action="store_true", help="every completion, for machines")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line, pay again, print."""
    arguments = parser().parse_args()
    folder = find_run(arguments.run)
    wanted = read_rewards(arguments.rewards)
    from xmlgrpo_run.screen.console import make_console
    from xmlgrpo_viewer.reading.run_view import read_run
    from xmlgrpo_viewer.reading.sampled import read_sampled
    from xmlgrpo_viewer.replay.rescored import rescore
    from xmlgrpo_viewer.replay.show import as_json, show

    view = read_run(folder)
    weights = wanted or view.weights
    rescored = rescore(view, weights)
    for sentence in read_sampled(view)[1]:
        print(f"left out: {sentence}", file=sys.stderr)
    if arguments.json:
        for one in rescored:
            print(for_stdout(json.dumps(as_json(one), ensure_ascii=False)))
        return
    show(rescored, view.weights, weights, make_console())


def read_rewards(words: Sequence[str]) -> dict[str, float]:
    """`NAME=WEIGHT` words as a configuration's `rewards`.

    Raises:
        UserError: a word is not of that form.
    """
    rewards = {}
    for word in words:
        name, equals, weight = word.rpartition("=")
        try:
            rewards[name] = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UserError(
                f"--rewards: expected NAME=WEIGHT, as in int_reward_func=1, got {word!r}"
            )
    return rewards


if __name__ == "__main__":
    main()

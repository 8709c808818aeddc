"""`xmlgrpo-rescore`: what a run would have been paid."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xmlgrpo_rewards.console_script import add_version, for_stdout, run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import find_run

if TYPE_CHECKING:
    from rich.console import Console

    from xmlgrpo_viewer.replay.rescored import Rescored

EXAMPLES = 3
COLUMNS = 160  # of a completion that is shown


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

    view = read_run(folder)
    weights = wanted or view.weights
    rescored = rescore(view, weights)
    for sentence in read_sampled(view)[1]:
        print(f"left out: {sentence}", file=sys.stderr)
    if arguments.json:
        for one in rescored:
            print(for_stdout(json.dumps(_as_json(one), ensure_ascii=False)))
        return
    console = make_console()
    show(rescored, console)
    show_what_for(rescored, view.weights, weights, console)


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


def show(rescored: "Sequence[Rescored]", console: "Console") -> None:
    """Print what would have changed."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from xmlgrpo_rewards.prose import one_line
    from xmlgrpo_run.screen.say import say
    from xmlgrpo_viewer.replay.rescored import by_stretch, other_winners

    table = Table("steps", "paid", "would be paid", box=SIMPLE_HEAD)
    for steps, before, after in by_stretch(rescored):
        table.add_row(steps, f"{before:.3f}", f"{after:.3f}")
    say(console, f"[bold]{len(rescored):,} kept completions[/], mean pay of each")
    console.print(table)
    changed, groups = other_winners(rescored)
    say(console, f"in {changed} of {groups} groups another completion would have been paid most")
    turned = sum(one.was_right != one.is_right for one in rescored)
    say(
        console, f"{turned} of {len(rescored)} are graded otherwise today than when they were drawn"
    )
    for one in sorted(rescored, key=lambda o: -abs(o.after - o.before))[:EXAMPLES]:
        if one.after != one.before:
            text = escape(one_line(one.sampled.text, COLUMNS))
            say(console, text, head=f"  {one.before:.3f} to {one.after:.3f}: ")


def show_what_for(
    rescored: "Sequence[Rescored]",
    weights: Mapping[str, float],
    new_weights: Mapping[str, float],
    console: "Console",
) -> None:
    """Print whether the rewards tell right completions from wrong ones, as they were and anew."""
    from xmlgrpo_run.screen.say import say
    from xmlgrpo_viewer.reading.paid import paid_for

    was = [one.sampled for one in rescored]
    would_be = [replace(one.sampled, scores=one.parts) for one in rescored]
    for head, ones, by in (("paid", was, weights), ("would be paid", would_be, new_weights)):
        if found := paid_for(ones, by):
            say(console, str(found), head=f"[bold]{head}[/]: ")


def _as_json(one: "Rescored") -> Mapping[str, object]:
    return {
        "step": one.sampled.step,
        "id": one.sampled.example.id,
        "before": one.before,
        "after": one.after,
        "parts": one.parts,
        "was_right": one.was_right,
        "is_right": one.is_right,
    }


if __name__ == "__main__":
    main()

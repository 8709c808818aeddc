"""What a run would have been paid, on the screen and for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_rewards.prose import one_line
from xmlgrpo_run.screen.say import say
from xmlgrpo_viewer.reading.paid import paid_for
from xmlgrpo_viewer.replay.rescored import Rescored, by_stretch, other_winners

EXAMPLES = 3
COLUMNS = 160  # of a completion that is shown


def show(
    rescored: Sequence[Rescored],
    weights: Mapping[str, float],
    new_weights: Mapping[str, float],
    console: Console,
) -> None:
    """Print what would have changed, and whether the rewards tell right from wrong completions."""
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
    was = [one.sampled for one in rescored]
    would_be = [replace(one.sampled, scores=one.parts) for one in rescored]
    for head, ones, by in (("paid", was, weights), ("would be paid", would_be, new_weights)):
        if found := paid_for(ones, by):
            say(console, str(found), head=f"[bold]{head}[/]: ")


def as_json(one: Rescored) -> Mapping[str, object]:
    """One completion for machines."""
    return {
        "step": one.sampled.step,
        "id": one.sampled.example.id,
        "before": one.before,
        "after": one.after,
        "parts": one.parts,
        "was_right": one.was_right,
        "is_right": one.is_right,
    }

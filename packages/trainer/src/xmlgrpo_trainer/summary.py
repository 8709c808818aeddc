"""The end of a run in words and a table: before and after, with intervals, and what it means."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.run_folder import RunFolder
from xmlgrpo_trainer.holdout import HoldoutResult, Item

ROWS = (
    ("strict_format", "strict format"),
    ("strict_accuracy", "strict accuracy (form and number)"),
    ("lenient_accuracy", "lenient accuracy (number, any form)"),
    ("worked", "worked out (a sum is written)"),
    ("truncated", "cut at the length limit"),
    ("no_answer", "no answer could be read"),
)

# What a run on generated problems must reach before the summary says that it showed something.
SHOWN_FORMAT, SHOWN_GAIN = 0.95, 0.30

DEMO_SHOWED = """\
What this shows: GRPO taught this tiny model to answer in the required form and to work a problem
out instead of blurting a number. Lenient accuracy counts a right number in any form, so its gain
is not the format's.
What it does not show: better arithmetic, or anything about GSM8K or large models. The warm start
left both habits in the model, guessing as the likelier one, and strict accuracy starts near zero
for that reason. Where worked solutions exist, supervised training on them does better for the
same compute (docs/results.md)."""
DEMO_DID_NOT = """\
This run was too short, or its settings too different, to show what the default shows: strict
format of at least 95 % and 30 points more lenient accuracy. Read the table as it is."""
TINY_ON_REAL = """\
The tiny model has only seen small made-up problems. On these it is expected to score next to
nothing; this run shows that the path works, not that the model reasons."""


def verdict(manifest: dict[str, Any]) -> str:
    """What the numbers of a tiny run do and do not show, in words; empty for other models."""
    if not manifest["base"]["tiny"]:
        return ""
    if manifest["data"]["source"] != "generated":
        return TINY_ON_REAL
    before, after = manifest["holdout"]["before"], manifest["holdout"]["after"]

    def gained(name: str) -> bool:
        return Share(**after[name]).value - Share(**before[name]).value >= SHOWN_GAIN

    formed = Share(**after["strict_format"]).value >= SHOWN_FORMAT
    reached = formed and all(map(gained, ("strict_accuracy", "lenient_accuracy", "worked")))
    return DEMO_SHOWED if reached else DEMO_DID_NOT


def holdout_table(holdout: dict[str, Any]) -> Table:
    """The before/after table of a manifest's `holdout`, with 95 % intervals."""
    rows = holdout["rows"]
    table = Table(title=f"Held-out result on {rows} problems, greedy, 95 % interval")
    table.add_column("", style="bold")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="green")
    table.add_column("change", justify="right")
    for name, label in ROWS:
        before, after = (Share(**holdout[when][name]) for when in ("before", "after"))
        points = (after.value - before.value) * 100
        table.add_row(label, str(before), str(after), f"{points:+.1f} points")
    lengths = [holdout[when]["mean_tokens"] for when in ("before", "after")]
    table.add_row(
        "mean reply length, tokens",
        *(f"{length:.1f}" for length in lengths),
        f"{lengths[1] - lengths[0]:+.1f}",
    )
    return table


def show_examples(console: Console, before: HoldoutResult, after: HoldoutResult) -> None:
    """Print held-out problems with both replies: two that became right, one that is still wrong."""
    pairs = list(zip(before.items, after.items, strict=True))
    mended = [p for p in pairs if not p[0].lenient_correct and p[1].lenient_correct]
    wrong = [p for p in pairs if not p[1].lenient_correct]
    for label, chosen in (("became right", mended[:2]), ("still wrong", wrong[:1])):
        for old, new in chosen:
            _show_pair(console, label, old, new)


def _show_pair(console: Console, label: str, before: Item, after: Item) -> None:
    console.print(f"[bold]{label}[/]: {escape(after.question)} [dim](gold {escape(after.gold)})[/]")
    for when, item in (("before", before), ("after", after)):
        reply = "\n         ".join(escape(item.reply.strip()).splitlines()) or "(nothing)"
        console.print(f"  [dim]{when:6}[/] {reply}", highlight=False)


def show_end(
    console: Console,
    manifest: dict[str, Any],
    folder: RunFolder,
    results: Sequence[HoldoutResult] = (),
) -> None:
    """Print the result of a finished run and what one may do next.

    Args:
        results: the replies before and after, when examples are to be shown.
    """
    if len(results) == 2:
        show_examples(console, *results)
    console.print(holdout_table(manifest["holdout"]))
    if words := verdict(manifest):
        console.print(words, style="dim", highlight=False)
    name = folder.root.name
    console.print(
        f"\nrun folder   {escape(str(folder.root))} (adapter/, metrics.jsonl, curves.png, holdout/)"
        f'\nask it       make ask RUN={escape(name)} Q="..."',
        highlight=False,
    )

"""The result of a run: curves, examples, before and after with intervals, and what it means."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.task import Words
from xmlgrpo_run.files import replacing
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import HeldOut, Manifest
from xmlgrpo_run.measures.holdout import HoldoutResult
from xmlgrpo_run.metrics import read_log
from xmlgrpo_run.screen.curves import Ink, Rows, draw, panels
from xmlgrpo_run.screen.metric_names import metric_names, words_of
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.doctor.finding import show
from xmlgrpo_trainer.doctor.run import check_run

ROWS = (
    "strict_format",
    "strict_accuracy",
    "lenient_accuracy",
    "worked",
    "truncated",
    "no_answer",
    "mean_tokens",
)
WIDE = 105  # columns; from here on the table has room for what the names mean

# What a run on generated problems must reach before the summary says that it showed something.
SHOWN_FORMAT, SHOWN_GAIN = 0.95, 0.30

DEMO_SHOWED = (
    "What this shows: GRPO taught this tiny model to answer in the required form and to work a "
    "problem out instead of blurting a number. Lenient accuracy counts a right number in any form, "
    "so its gain is not the format's.\n"
    "What it does not show: better arithmetic, or anything about GSM8K or large models. The warm "
    "start left both habits in the model, guessing as the likelier one, and strict accuracy starts "
    "near zero for that reason. Where worked solutions exist, supervised training on them does "
    "better for the same compute (docs/results.md)."
)
TASK_SHOWED = (
    "What this shows: GRPO taught this tiny model to answer in the required form and to read each "
    "problem instead of giving an answer that it remembers from another one. Lenient accuracy "
    "counts a right answer in any form, so its gain is not the format's.\n"
    "What it does not show: a new skill, or anything about large models. The warm start left both "
    "habits in the model on purpose, and strict accuracy starts near zero for that reason "
    "(docs/results.md)."
)
DEMO_DID_NOT = (
    "This run was too short, or its settings too different, to show what the default shows: strict "
    "format of at least 95 % and 30 points more lenient accuracy. Read the table as it is."
)
TASK_DID_NOT = (
    "This run does not show that the task was learnt: strict format of at least 95 %, and 30 "
    "points more strict and lenient accuracy, would. Read the table as it is; docs/results.md has "
    "what the tiny configuration of each task reaches."
)
TINY_ON_REAL = (
    "The tiny model has only seen small made-up problems. On others it is expected to score next "
    "to nothing; this run shows that the path works, not that the model reasons."
)


def draw_curves(rows: Rows, path: Path, title: str, words: Words) -> None:
    """Draw `curves.png`; nothing where nothing was logged.

    Args:
        rows: the merged rows of `metrics.jsonl`, in step order; keys may be missing or null.
        path: where the PNG goes; replaced whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = panels(rows, words)
    if not drawn:
        return
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, parse_math=False)
    draw(figure, rows, drawn, Ink())
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def verdict(manifest: Manifest) -> str:
    """What the numbers of a tiny run do and do not show, in words; empty for other models."""
    if not manifest.base.tiny:
        return ""
    if manifest.data.source != "generated":
        return TINY_ON_REAL
    before, after = manifest.holdout.before, manifest.holdout.after

    def gained(name: str) -> bool:
        return Share(**after[name]).value - Share(**before[name]).value >= SHOWN_GAIN

    works = words_of(manifest.task).worked is not None
    rising = ("strict_accuracy", "lenient_accuracy", *(["worked"] if works else []))
    formed = Share(**after["strict_format"]).value >= SHOWN_FORMAT
    if not formed or not all(map(gained, rising)):
        return DEMO_DID_NOT if works else TASK_DID_NOT
    return DEMO_SHOWED if works else TASK_SHOWED


def holdout_table(holdout: HeldOut, words: Words, columns: int) -> Table:
    """The before/after table of a manifest's `holdout`, with 95 % intervals.

    Args:
        columns: of the screen; no cell is broken from 80 on.
    """
    table = Table(
        title=f"Held-out result on {holdout.rows} problems, greedy, 95 % interval",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("before", justify="right", no_wrap=True)
    table.add_column("after", justify="right", style="green", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    names = metric_names(words)
    for row in (row for row in ROWS if row in names):
        label = names[row].full if columns >= WIDE else names[row].label
        before, after = holdout.before[row], holdout.after[row]
        if row == "mean_tokens":
            table.add_row(label, f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}")
            continue
        old, new = Share(**before), Share(**after)
        table.add_row(label, str(old), str(new), f"{(new.value - old.value) * 100:+.1f}")
    return table


def show_examples(console: Console, before: HoldoutResult, after: HoldoutResult) -> None:
    """Print held-out problems with both replies: two that became right, one that is still wrong."""
    pairs = list(zip(before.items, after.items, strict=True))
    became_right = [p for p in pairs if not p[0].lenient_correct and p[1].lenient_correct]
    wrong = [p for p in pairs if not p[1].lenient_correct]
    shown = [("became right", pair) for pair in became_right[:2]]
    shown += [("still wrong", pair) for pair in wrong[:1]]
    for label, (old, new) in shown:
        asked = f"{escape(printable(new.question))} [dim](gold {escape(printable(new.gold))})[/]"
        say(console, f"[bold]{label}[/]: {asked}")
        for when, item in (("before", old), ("after", new)):
            reply = escape(printable(item.reply.strip())) or "(nothing)"
            say(console, reply, head=f"  [dim]{when:6}[/] ")


def show_end(
    console: Console,
    manifest: Manifest,
    folder: RunFolder,
    results: Sequence[HoldoutResult] = (),
) -> None:
    """Print the result of a finished run and what one may do next.

    Args:
        results: the replies before and after, when examples are to be shown.
    """
    if len(results) == 2:
        show_examples(console, *results)
    words = words_of(manifest.task)
    console.print(holdout_table(manifest.holdout, words, console.width))
    if meaning := verdict(manifest):
        say(console, Text(meaning, style="dim"))
    found = [one for one in check_run(read_log(folder.metrics)) if one.level in ("bad", "warning")]
    for _ in show("The doctor on this run:", found, console) if found else ():
        pass
    console.print()
    say(
        console,
        f"{escape(str(folder.root))} (adapter/, metrics.jsonl, curves.png, holdout/)",
        head="run folder   ",
    )
    say(console, f'make ask RUN={escape(folder.called)} Q="..."', head="ask it       ")

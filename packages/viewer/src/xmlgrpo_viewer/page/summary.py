"""A run in words: its model and length, what was gained or how far it is, why it has stopped."""

from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from xmlgrpo_evaluator.results.compare import format_p
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.screen.progress import clock
from xmlgrpo_trainer.doctor.finding import Finding
from xmlgrpo_trainer.doctor.run import check_run
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints, step_of
from xmlgrpo_viewer.reading.held_out import Pair
from xmlgrpo_viewer.reading.run_view import RunView

SEVERITY = ("bad", "warning", "note", "ok")
PAUSE = 100  # times a usual step: nothing was trained in it


def about(view: RunView) -> str:
    """Model, task, length and time, in one line."""
    parts = []
    if view.manifest is not None:
        base = view.manifest.base
        parts.append(base.hub_id or Path(base.name).name)
        if base.revision:
            parts.append(f"at {base.revision[:12]}")
    elif view.config is not None:
        name = view.config.model.name
        parts.append(Path(name).name if name.startswith(("/", ".", "~")) else name)
    if view.task:
        parts.append(f"task {view.task}")
    if view.manifest is not None:
        parts.append(f"{view.manifest.steps} steps, step {view.manifest.best_step} kept")
        parts.append(f"finished {view.manifest.finished}")
    else:
        parts.append(view.progress)
    return ", ".join(parts)


def headline(view: RunView, both: Pair | None) -> str:
    """The run in one sentence: what was gained, or how far it is."""
    if both is not None:
        before, after = (side.share("strict_correct") for side in (both.first, both.second))
        table_ = both.table("strict_correct")
        gap = table_.difference
        return (
            f"{before.value:.1%} of {before.total} held-out problems were right in the asked form "
            f"before training, {after.value:.1%} after it: {100 * gap.value:+.1f} points "
            f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}], p = {format_p(table_.p_value)}."
        )
    held = view.manifest.holdout if view.manifest else None
    if held and "strict_accuracy" in held.after:  # without the replies no pairs, but both shares
        before, after = (Share(**one["strict_accuracy"]) for one in (held.before, held.after))
        return (
            f"{before} of {held.rows} held-out problems were right in the asked form before "
            f"training, {after} after it."
        )
    done, left = view.progress.capitalize(), left_s(view)
    then = f", {clock(left)} left" if left is not None and view.state == "training" else ""
    validated = [(one.step, str(one.share("strict_correct"))) for one in view.validations]
    logged = view.log.series("validation/strict_accuracy")
    validated = validated or [(step, f"{value:.1%}") for step, value in logged]
    if not validated:
        return f"{done}{then}; no validation yet."
    (first, at_first), (newest, now) = validated[0], validated[-1]
    return (
        f"{done}{then}. Validation at step {newest}: {now} right in the asked form, "
        f"{at_first} at step {first}."
    )


def findings(view: RunView) -> list[Finding]:
    """What the doctor says, the worst first."""
    return sorted(check_run(view.log), key=lambda one: SEVERITY.index(one.level))


def ended(view: RunView) -> str:
    """Why a run that is not finished trains no more, and how it goes on."""
    if view.state != "stopped":
        return ""
    why = (view.ended or "it was killed, or left no word").rstrip(".")
    kept = find_checkpoints(view.run.checkpoints).newest
    up_to = f"is kept up to step {step_of(kept)}" if kept else "is not kept"
    return f"Its training has not come to its end: {why}. What was trained {up_to}."


def left_s(view: RunView) -> float | None:
    """Seconds that the remaining steps take at the pace of the last ones; None if not known.

    The hours before a run was continued are no step's.
    """
    times = view.times[-20:]
    if view.last_step is None or len(times) < 2:
        return None
    paces = [(end - start) / (step - before) for (before, start), (step, end) in pairwise(times)]
    longest = PAUSE * median(paces)
    pace = fmean(pace for pace in paces if pace <= longest or pace <= 0)
    return max(0.0, pace * (view.last_step - view.step))

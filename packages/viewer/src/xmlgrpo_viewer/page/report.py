"""A run as one HTML file that needs nothing beside it and sends nothing anywhere.

Completions are hostile text: the template escapes every value, the scripts set it as text only, and
the page's content security policy runs no script but the two that are in it, named by their hashes.
"""

import difflib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, get_args
from urllib.parse import quote

from markupsafe import Markup, escape

from xmlgrpo_evaluator.results.compare import format_p, table_rows
from xmlgrpo_evaluator.results.ladder_table import cells
from xmlgrpo_evaluator.results.result import main_metric
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.prose import printable, without_paths
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import read_bytes, read_sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.screen.curves import reward_name
from xmlgrpo_run.screen.metric_names import metric_names
from xmlgrpo_run.screen.progress import clock
from xmlgrpo_trainer.doctor.run import check_run
from xmlgrpo_trainer.resume.checkpoints import find_checkpoints, step_of
from xmlgrpo_viewer.page.assets import environment, json_in_html, policy_hashes, scripts, styles
from xmlgrpo_viewer.page.charts import Chart, charts, for_uplot, lengths, table
from xmlgrpo_viewer.page.settings import changed_settings, cost_and_environment
from xmlgrpo_viewer.reading.difficulty import by_difficulty, steps_of_problems
from xmlgrpo_viewer.reading.followed import Stretch, followed
from xmlgrpo_viewer.reading.paid import Paid, paid_for
from xmlgrpo_viewer.reading.pair import Pair, paired
from xmlgrpo_viewer.reading.run_view import RunView, read_run
from xmlgrpo_viewer.reading.sampled import Outcome, Sampled, paid_but_wrong_first, read_sampled

REFRESH_S = 30  # a page of a run that trains is written and read again
PAUSE = 100  # times a usual step: nothing was trained in it
FLIPS_SHOWN = 12
STRETCHES_SHOWN = 30  # of a problem's replies: the first, and the newest
MOST_BYTES = 3_000_000  # of completions in a page, which stays below 5 MB
MOST_WRONG = 500  # of those, the wrong ones that earned most
MOST_CHARACTERS = 6_000  # of one completion
MOST_TEXT = 100_000  # bytes of a file that is shown as it is
SEVERITY = ("bad", "warning", "note", "ok")
ALIKE = 0.3  # share of words in common below which two replies are simply two
MOST_PAIRS = 50_000  # of equal words at any two places, beyond which a comparison takes seconds
WORDS = re.compile(r"(?:\w+|[^\w\s])\s*|\s+")
MEASURES = {
    "strict_correct": "strict_accuracy",
    "lenient_correct": "lenient_accuracy",
    "strict_format": "strict_format",
    "truncated": "truncated",
    "answered": "",
}


def write_report(run: RunFolder) -> RunView:
    """Write `report.html` into a run's folder, of whatever is there.

    Raises:
        UserError: no run is there, or a finished one's files are not what training left.
    """
    view = read_run(run)
    write_text(run.report, render(view))
    return view


def render(view: RunView) -> str:
    """The page as HTML."""
    both = paired(view.before, view.after)
    sampled, unread = read_sampled(view)
    shown, note = _embedded(sampled, view)
    drawn = charts(view)
    evaluations = [(path.name, read_sealed(path)) for path in sorted(view.run.eval.glob("*.json"))]
    comparisons = [(name, file) for name, file in evaluations if "first" in file]
    results = [(name, file) for name, file in evaluations if "subject" in file]
    difficulty = _difficulty(view)
    problems = _followed(view)
    paid, outcomes = paid_for(sampled, view.weights), {one.outcome for one in sampled}
    sizes = _lengths(view)
    drawn += [sizes] if sizes else []
    flips = both.flips() if both else {}
    ladder = read_sealed(view.run.ladder) if os.path.lexists(view.run.ladder) else None
    parts = {
        "result": "Result",
        "training": "Training" if drawn else "",
        "evaluation": "Evaluation" if evaluations or view.state == "finished" else "",
        "flips": "What changed" if any(flips.values()) else "",
        "followed": "The same problems" if problems else "",
        "difficulty": "By difficulty" if difficulty else "",
        "exports": "Exports" if ladder else "",
        "completions": "Completions" if shown else "",
        "settings": "Settings",
    }
    data = {
        "charts": [for_uplot(chart) for chart in drawn],
        "completions": shown,
        "rewards": [printable(reward_name(name)) for name in _rewards(sampled)],
    }
    pages = environment("page")
    pages.filters |= _filters(view)
    return pages.get_template("report.html.j2").render(
        name=view.run.name,
        state=view.state,
        about=_about(view),
        refresh_s=REFRESH_S if view.state == "training" else 0,
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        parts=[(part, title) for part, title in parts.items() if title],
        headline=headline(view, both),
        ended=_ended(view),
        held_out=list(_held_out(view, both)) if both else [],
        evaluate=f"make eval RUN={view.run.called}",
        called=view.run.called,
        graded_by=_older_grade(view),
        asked=len(both.first.items) if both else 0,
        findings=sorted(check_run(view.log), key=lambda one: SEVERITY.index(one.level)),
        unread=without_paths([*view.unread, *unread]),
        flips=flips if any(flips.values()) else {},
        flips_shown=FLIPS_SHOWN,
        stretches_shown=STRETCHES_SHOWN,
        marked=marked,
        comparisons=comparisons,
        results=results,
        charts=[(chart, table(chart)) for chart in drawn],
        followed=problems,
        difficulty=difficulty,
        ladder=ladder,
        completions={
            "rows": shown,
            "note": note,
            "outcomes": [name for name in get_args(Outcome) if name in outcomes],
            "rewards": data["rewards"],
        },
        paid=paid,
        paid_rows=_paid_rows(paid, view.weights) if paid else [],
        gamed=shown[0] if paid and paid.is_often else None,
        changed=changed_settings(view),
        cost=cost_and_environment(view),
        config=without_paths(_text_of(view.run.config)),
        manifest_text=without_paths(_text_of(view.run.manifest)),
        data=json_in_html(data),
        scripts=scripts(),
        script_hashes=policy_hashes(),
        styles=styles(),
    )


def _older_grade(view: RunView) -> int | None:
    """The version of the reply form whose grades these are; None of today's."""
    version = view.manifest.format_version if view.manifest else FORMAT_VERSION
    return None if version == FORMAT_VERSION else version


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
    done = f"step {view.step}" + (f" of {view.last_step}" if view.last_step else "")
    left = left_s(view)
    about = f", {clock(left)} left" if left is not None and view.state == "training" else ""
    validated = [(one.step, str(one.share("strict_correct"))) for one in view.validations]
    logged = view.log.series("validation/strict_accuracy")
    validated = validated or [(step, f"{value:.1%}") for step, value in logged]
    if not validated:
        return f"{done.capitalize()}{about}; no validation yet."
    (first, at_first), (newest, now) = validated[0], validated[-1]
    return (
        f"{done.capitalize()}{about}. Validation at step {newest}: {now} right in the asked form, "
        f"{at_first} at step {first}."
    )


def _ended(view: RunView) -> str:
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


def marked(first: str, second: str) -> Markup:
    """The second text with the words that the first one does not have at their place marked."""
    first, second = printable(first)[:MOST_CHARACTERS], printable(second)[:MOST_CHARACTERS]
    old, new = WORDS.findall(first), WORDS.findall(second)
    before = Counter(old)
    if sum(before[word] * count for word, count in Counter(new).items()) > MOST_PAIRS:
        return escape(second)  # one word again and again, as a model that is lost writes
    compared = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if compared.ratio() < ALIKE:
        return escape(second)
    parts: list[Markup] = []
    for kind, _, _, low, high in compared.get_opcodes():
        text = "".join(new[low:high])
        is_new = text.rstrip() if kind != "equal" else ""
        parts.append(Markup("<mark>%s</mark>") % is_new if is_new else Markup())
        parts.append(escape(text.removeprefix(is_new)))
    return Markup("").join(parts)


def _held_out(view: RunView, both: Pair) -> Iterator[tuple[str, str, str, str, str]]:
    names = metric_names(view.words)
    for field, metric in MEASURES.items():
        before, after = both.first.share(field), both.second.share(field)
        counted = both.table(field)
        label = names[metric].full if metric else "an answer could be read"
        difference, p = str(counted.difference), format_p(counted.p_value)
        yield label, str(before), str(after), difference, p
    means = [fmean(item.tokens for item in side.items) for side in (both.first, both.second)]
    first, second = means
    yield "tokens per reply", f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}", ""


def _about(view: RunView) -> str:
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
        of = f" of {view.last_step}" if view.last_step else ""
        parts.append(f"step {view.step}{of}")
    return ", ".join(parts)


def _lengths(view: RunView) -> Chart | None:
    groups = {
        label: [item.tokens for item in side.items]
        for label, side in (("before", view.before), ("after", view.after))
        if side
    }
    return lengths(groups, "holdout/")


def _difficulty(view: RunView) -> list[tuple[str, str, str, str]]:
    steps = steps_of_problems(view)
    if view.before is None or not steps:
        return []
    before = by_difficulty(view.before, steps)
    if len(before) < 2:  # one class says what the result says
        return []
    after = by_difficulty(view.after, steps) if view.after else {}
    most = max(before, default=0)
    return [
        (
            f"{count} or more" if count == most and count > 1 else str(count),
            str(share.total),
            str(share),
            str(after[count]) if count in after else "",
        )
        for count, share in before.items()
    ]


def _followed(view: RunView) -> list[list[tuple[Stretch, Markup]]]:
    """The problems that are followed: each new reply, with its new words marked."""
    shown = [
        (*one.stretches[:1], *one.stretches[1:][1 - STRETCHES_SHOWN :]) for one in followed(view)
    ]
    return [
        [
            (stretch, marked(before.answer.reply if before else "", stretch.answer.reply))
            for before, stretch in zip((None, *stretches), stretches, strict=False)
        ]
        for stretches in shown
    ]


def _embedded(sampled: Sequence[Sampled], view: RunView) -> tuple[list[dict[str, Any]], str]:
    """The completions that go into the page, and a sentence on which these are."""
    names = _rewards(sampled)
    ordered = paid_but_wrong_first(sampled, view.weights)
    wrong = list(_that_fit([one for one in ordered if one.outcome == "wrong"], MOST_BYTES // 2))
    room = MOST_BYTES - sum(map(_bytes, wrong))
    chosen = {id(one) for one in wrong}
    others = [one for one in sampled if id(one) not in chosen]
    every = max(1, -(-sum(map(_bytes, others)) // room))
    kept = [*wrong, *others[::every]]
    rows = [_row(one, view, names) for one in kept]
    if len(rows) == len(sampled):
        return rows, f"All {len(rows):,} that the run kept."
    return rows, (
        f"{len(rows):,} of the {len(sampled):,} that the run kept: the {len(wrong):,} wrong ones "
        f"that earned most, and 1 in {every} of the others."
    )


def _that_fit(ones: Sequence[Sampled], room: int) -> Iterator[Sampled]:
    for one in ones[:MOST_WRONG]:
        room -= _bytes(one)
        if room < 0:
            return
        yield one


def _bytes(one: Sampled) -> int:
    """What it takes in the page, about."""
    texts = one.text, one.example.question, one.example.gold
    written = json_in_html([text[:MOST_CHARACTERS] for text in texts])
    return len(written.encode(errors="replace")) + 200


def _rewards(sampled: Sequence[Sampled]) -> list[str]:
    return list(dict.fromkeys(name for one in sampled for name in one.scores))


def _row(one: Sampled, view: RunView, names: Sequence[str]) -> dict[str, Any]:
    text = printable(one.text)
    cut = f"… ({len(text):,} characters)" if len(text) > MOST_CHARACTERS else ""
    return {
        "step": one.step,
        "file": str(view.run.completions_of(one.step).relative_to(view.run.root)),
        "question": printable(one.example.question)[:MOST_CHARACTERS],
        "gold": printable(one.example.gold)[:MOST_CHARACTERS],
        "text": text[:MOST_CHARACTERS] + cut,
        "pay": round(one.pay(view.weights), 4),
        "outcome": one.outcome,
        "note": printable(one.note),
        "scores": [one.scores.get(name) for name in names],
    }


def _paid_rows(paid: Paid, weights: Mapping[str, float]) -> list[list[str]]:
    """What each reward paid for right and for wrong completions."""

    def shown(mean: float | None) -> str:
        return "no opinion" if mean is None else f"{mean:.3g}"

    rows = [
        [reward_name(name), f"{weights.get(name, 1.0):g}", shown(right), shown(wrong)]
        for name, (right, wrong) in paid.by_reward.items()
    ]
    return [*rows, ["all together", "", shown(paid.right_mean), shown(paid.wrong_mean)]]


def _filters(view: RunView) -> Mapping[str, Callable[..., Any]]:
    names = {key: name.full for key, name in metric_names(view.words).items()}
    return {
        "called": lambda metric: names.get(metric, metric),
        "cells": cells,
        "linked": partial(_linked, view.run),
        "interval": lambda value: "{mean:.1%} [{low:.1%}, {high:.1%}]".format(**value),
        "main_metric": main_metric,
        "shown": lambda text: str(text)[:MOST_CHARACTERS],
        "table_rows": table_rows,
    }


def _linked(run: RunFolder, name: str) -> Markup:
    """A file's or a folder's name, which leads there where it is there."""
    shown = printable(name)
    if not (run.root / name).exists():
        return escape(shown)
    return Markup('<a href="%s">%s</a>') % (quote(name), shown)


def _text_of(path: Path) -> str:
    try:
        return read_bytes(path, MOST_TEXT)[:MOST_TEXT].decode("utf-8", "replace")
    except UserError:  # a run that has not written it yet
        return ""

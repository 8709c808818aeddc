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
from pathlib import Path
from statistics import fmean
from typing import Any, get_args
from urllib.parse import quote

from markupsafe import Markup, escape

from xmlgrpo_evaluator.results.compare import format_p, table_rows
from xmlgrpo_evaluator.results.ladder_table import cells
from xmlgrpo_evaluator.results.result import main_metric
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import printable, without_paths
from xmlgrpo_rewards.reply import FORMAT_VERSION
from xmlgrpo_run.files import read_bytes, read_sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.screen.curves import reward_name
from xmlgrpo_run.screen.metric_names import metric_names
from xmlgrpo_viewer.page.assets import environment, json_in_html
from xmlgrpo_viewer.page.charts import charts, for_uplot, table
from xmlgrpo_viewer.page.completions import MOST_CHARACTERS, embedded, rewards_of
from xmlgrpo_viewer.page.settings import changed_settings, cost_and_environment
from xmlgrpo_viewer.page.summary import about, ended, findings, headline
from xmlgrpo_viewer.reading.held_out import Pair, by_difficulty, paired, steps_of_problems
from xmlgrpo_viewer.reading.paid import Paid, paid_for
from xmlgrpo_viewer.reading.run_view import RunView, read_run
from xmlgrpo_viewer.reading.same_problems import Stretch, followed
from xmlgrpo_viewer.reading.sampled import Outcome, read_sampled

REFRESH_S = 30  # a page of a run that trains is written and read again
FLIPS_SHOWN = 12
STRETCHES_SHOWN = 30  # of a problem's replies: the first, and the newest
MOST_TEXT = 100_000  # bytes of a file that is shown as it is
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
    drawn = charts(view)
    completions, unread = _completions(view)
    shown = {
        **_result(view, both),
        **_evaluations(view),
        **_problems(view, both),
        "charts": [(chart, table(chart)) for chart in drawn],
        **completions,
        "unread": without_paths([*view.unread, *unread]),
        **_settings(view),
    }
    parts = {
        "result": "Result",
        "training": "Training" if drawn else "",
        "evaluation": "Evaluation" if shown["evaluated"] or view.state == "finished" else "",
        "flips": "What changed" if shown["flips"] else "",
        "followed": "The same problems" if shown["followed"] else "",
        "difficulty": "By difficulty" if shown["difficulty"] else "",
        "exports": "Exports" if shown["ladder"] else "",
        "completions": "Completions" if shown["completions"]["rows"] else "",
        "settings": "Settings",
    }
    data = {
        "charts": [for_uplot(chart) for chart in drawn],
        "completions": shown["completions"]["rows"],
        "rewards": shown["completions"]["rewards"],
    }
    pages = environment()
    pages.filters |= _filters(view)
    return pages.get_template("page/report.html.j2").render(
        parts=[(part, title) for part, title in parts.items() if title],
        **shown,
        data=json_in_html(data),
    )


def _result(view: RunView, both: Pair | None) -> dict[str, Any]:
    """What stands at the top: the run, how it went, and what the doctor says."""
    return {
        "name": view.run.name,
        "called": view.run.called,
        "state": view.state,
        "about": about(view),
        "refresh_s": REFRESH_S if view.state == "training" else 0,
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
        "headline": headline(view, both),
        "ended": ended(view),
        "held_out": list(_held_out(view, both)) if both else [],
        "graded_by": _older_grade(view),
        "asked": len(both.first.items) if both else 0,
        "findings": findings(view),
    }


def _evaluations(view: RunView) -> dict[str, Any]:
    """What `xmlgrpo-eval` has left."""
    files = [(path.name, read_sealed(path)) for path in sorted(view.run.eval.glob("*.json"))]
    return {
        "evaluate": f"make eval RUN={view.run.called}",
        "evaluated": bool(files),
        "comparisons": [(name, file) for name, file in files if "first" in file],
        "results": [(name, file) for name, file in files if "subject" in file],
        "ladder": read_sealed(view.run.ladder) if os.path.lexists(view.run.ladder) else None,
    }


def _problems(view: RunView, both: Pair | None) -> dict[str, Any]:
    """Held-out problems one by one: whose answer changed, what was said, how hard they are."""
    flips = both.flips() if both else {}
    return {
        "flips": flips if any(flips.values()) else {},
        "flips_shown": FLIPS_SHOWN,
        "stretches_shown": STRETCHES_SHOWN,
        "marked": marked,
        "followed": _followed(view),
        "difficulty": _difficulty(view),
    }


def _completions(view: RunView) -> tuple[dict[str, Any], Sequence[str]]:
    """Training's completions and what was paid for them; what of them cannot be read."""
    sampled, unread = read_sampled(view)
    rows, note = embedded(sampled, view)
    paid, outcomes = paid_for(sampled, view.weights), {one.outcome for one in sampled}
    shown = {
        "completions": {
            "rows": rows,
            "note": note,
            "outcomes": [name for name in get_args(Outcome) if name in outcomes],
            "rewards": [printable(reward_name(name)) for name in rewards_of(sampled)],
        },
        "paid": paid,
        "paid_rows": _paid_rows(paid, view.weights) if paid else [],
        "gamed": rows[0] if paid and paid.is_often else None,
    }
    return shown, unread


def _settings(view: RunView) -> dict[str, Any]:
    """What was set, where it ran, and both files as they are."""
    return {
        "changed": changed_settings(view),
        "cost": cost_and_environment(view),
        "config": without_paths(_text_of(view.run.config)),
        "manifest_text": without_paths(_text_of(view.run.manifest)),
    }


def _older_grade(view: RunView) -> int | None:
    """The version of the reply form whose grades these are; None of today's."""
    version = view.manifest.format_version if view.manifest else FORMAT_VERSION
    return None if version == FORMAT_VERSION else version


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

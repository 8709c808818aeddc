"""The completions that a page carries, as many as its size allows: paid but wrong ones first."""

from collections.abc import Iterator, Sequence
from typing import Any

from xmlgrpo_rewards.prose import printable
from xmlgrpo_viewer.page.assets import json_in_html
from xmlgrpo_viewer.reading.run_view import RunView
from xmlgrpo_viewer.reading.sampled import Sampled, paid_but_wrong_first

MOST_BYTES = 3_000_000  # of completions in a page, which stays below 5 MB
MOST_WRONG = 500  # of those, the wrong ones that earned most
MOST_CHARACTERS = 6_000  # of one completion


def embedded(sampled: Sequence[Sampled], view: RunView) -> tuple[list[dict[str, Any]], str]:
    """The completions that go into the page, and a sentence on which these are."""
    names = rewards_of(sampled)
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


def rewards_of(sampled: Sequence[Sampled]) -> list[str]:
    """The names of the rewards that paid for them."""
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

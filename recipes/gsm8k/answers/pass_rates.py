"""How often a model solves each question.

    python -m recipes.gsm8k.answers.pass_rates MODEL --rows asked.jsonl --out part.jsonl --part 0/2

Replies whose sums lead to the answer are kept too, as the data of rejection sampling.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.gsm8k.answers.answering import Answering, Reply, examples_of, open_model
from recipes.gsm8k.data.rows import load, save
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.reply import parse
from xmlgrpo_rollout.engine import Sampling

AT_ONCE = 512  # questions between two looks at the clock
KEPT_REPLIES = 4  # different ones to a question


def main() -> int:
    """Ask, and write the file."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("--rows", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--part", default="0/1", help="the first of two parts is 0/2")
    options.add_argument("--samples", type=int, default=8)
    options.add_argument("--tokens", type=int, default=200)
    options.add_argument("--seconds", type=float, default=600, help="then it stops asking")
    options.add_argument("--device", default="cuda")
    options.add_argument("--solutions", action="store_true", help="write those alone, as rows")
    asked = options.parse_args()
    number, parts = map(int, asked.part.split("/"))
    rows = load(asked.rows)
    random.Random(0).shuffle(rows)  # noqa: S311 - no secret depends on it
    answering = open_model(asked.model, None, asked.device)
    sampling = Sampling(asked.tokens, temperature=1.0)
    found = screen(answering, rows[number::parts], asked.samples, sampling, asked.seconds)
    save(asked.out, own_solutions(found) if asked.solutions else found)
    return 0


def screen(
    answering: Answering,
    rows: Sequence[dict[str, Any]],
    samples: int,
    sampling: Sampling,
    seconds: float,
) -> list[dict[str, Any]]:
    """The rows with what came of them, as many as the seconds allow."""
    began, found = time.monotonic(), []
    for start in range(0, len(rows), AT_ONCE):
        if time.monotonic() - began > seconds:
            break
        some = rows[start : start + AT_ONCE]
        groups = answering.replies(examples_of(some), samples, sampling)
        found += [row | noted(group) for row, group in zip(some, groups, strict=True)]
        print(f"{len(found)} of {len(rows)} in {time.monotonic() - began:.0f} s", flush=True)
    return found


def noted(group: Sequence[Reply]) -> dict[str, Any]:
    """What is kept of the replies to a question."""
    solved = dict.fromkeys(parse(reply.text).reasoning for reply in group if reply.shown)
    return {
        "samples": len(group),
        "right": sum(reply.grade.strict_correct for reply in group),
        "shown": sum(reply.shown for reply in group),
        "reasonings": list(solved)[:KEPT_REPLIES],
    }


def to_train_on(
    screened: Sequence[dict[str, Any]], pool: Iterable[dict[str, Any]], most_rows: int
) -> list[dict[str, Any]]:
    """The rows for GRPO with their pass rates: a story's question and some of its retellings.

    `right` counts what was shown to be right, `asked` the samples, `family` is the story.  What was
    not screened has 0 of 0: its story's rate holds for it.
    """
    rows: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in (*screened, *pool):
        if len(rows[row["story"]]) < most_rows:
            kept = {name: row[name] for name in ("question", "answer", "story")}
            kept |= {"right": row.get("shown", 0), "asked": row.get("samples", 0)}
            rows[row["story"]].setdefault(row["question"], kept | {"family": row["story"]})
    return [row for told in rows.values() for row in told.values()]


def stories_within(rows: Iterable[dict[str, Any]], low: float, high: float) -> set[int]:
    """The stories with a pass rate between two shares."""
    right: dict[int, int] = defaultdict(int)
    asked: dict[int, int] = defaultdict(int)
    for row in rows:
        right[row["family"]] += row["right"]
        asked[row["family"]] += row["asked"]
    return {story for story in asked if asked[story] and low <= right[story] / asked[story] <= high}


def to_ask_again(rows: Sequence[dict[str, Any]], low: float, high: float) -> list[dict[str, Any]]:
    """The questions that were not asked yet of stories with a pass rate between two shares."""
    stories = stories_within(rows, low, high)
    names = ("question", "answer", "story")
    return [
        {name: row[name] for name in names}
        for row in rows
        if row["family"] in stories and not row["asked"]
    ]


def own_solutions(screened: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The model's own solutions as rows: the data of rejection sampling."""
    for row in screened:
        gold = row["answer"].rpartition("#### ")[2]
        for reasoning in row["reasonings"]:
            yield {
                "question": row["question"],
                "answer": f"{reasoning}\n#### {gold}",
                "story": row["story"],
            }


if __name__ == "__main__":
    run_command(main)

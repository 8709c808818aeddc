"""The rows of the GSM8K experiment: which are trained on, which are asked, which are told again.

    python -m recipes.gsm8k.data.rows --gsm8k FOLDER --out DATA

Nothing is drawn twice: the last rows of the train split and all their retellings are for
validation alone.  Of the others every second story is the warm start's, and the rest GRPO's, which
the warm start never sees in any telling.  Each row has its `story`, the number of the train row
that it tells.
"""

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from recipes.gsm8k.data.renumber import read_story, retell
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_run.files import write_text

Row = dict[str, Any]
VALIDATION_STORIES = 873  # the last ones; 6,600 are left to train on
TRIES = 3  # for every retelling that is wanted
# what there is, by file name
PLAIN, RETOLD = "sft-plain.jsonl", "sft-retold.jsonl"  # the warm start's
UNSEEN, POOL, SCREENED = "unseen-plain.jsonl", "unseen-retold.jsonl", "screened.jsonl"  # GRPO's
VALIDATION, VALIDATION_RETOLD = "validation.jsonl", "validation-retold.jsonl"
SCREENED_RETELLINGS = 2  # of a story, beside the story itself
WARM_EVERY = 2  # of so many stories one is the warm start's


def main() -> int:
    """Write the files."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--gsm8k", type=Path, required=True, help="folder of train.jsonl")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--each", type=int, default=12, help="retellings of a story")
    options.add_argument("--validation-retold", type=int, default=2000)
    options.add_argument("--limit", type=int, help="train rows, for a rehearsal")
    options.add_argument("--processes", type=int, default=2)
    asked = options.parse_args()
    rows = [
        {"question": row.fields["question"], "answer": row.fields["answer"], "story": number}
        for number, row in enumerate(text_rows(asked.gsm8k / "train.jsonl"))
    ]
    files = make_rows(
        rows[: asked.limit],
        each=asked.each,
        validation_retold=asked.validation_retold,
        processes=asked.processes,
    )
    for name, kept in files.items():
        save(asked.out / name, kept)
        print(f"{name}: {len(kept)} rows of {len({row['story'] for row in kept})} stories")
    return 0


def make_rows(
    rows: Sequence[Row], *, each: int, validation_retold: int, processes: int
) -> dict[str, list[Row]]:
    """All rows by file name.

    Args:
        rows: of the train split, in order.
        each: retellings of a story to train on.
        validation_retold: retellings of the validation stories.
        processes: that retell.

    Raises:
        UserError: a question is trained on and asked.
    """
    kept_back = min(VALIDATION_STORIES, len(rows) // 4)
    training, validation = rows[:-kept_back], rows[-kept_back:]
    with ProcessPoolExecutor(processes) as pool:
        told = list(pool.map(partial(retellings, wanted=each), training, chunksize=50))
        tell = partial(retellings, wanted=2 + 2 * validation_retold // len(validation))
        asked_again = list(pool.map(tell, validation, chunksize=50))
    kept_apart = [*validation, *(row for again in asked_again for row in again)]
    asked = {row["question"] for row in kept_apart}
    if both := asked & {row["question"] for row in training}:
        raise UserError(f"{len(both)} questions are trained on and asked: {min(both)!r}")
    told = [[row for row in again if row["question"] not in asked] for again in told]
    stories = list(zip(training, told, strict=True))
    warm = [story for story in stories if story[0]["story"] % WARM_EVERY == 0]
    seen = {row["question"] for plain, again in warm for row in (plain, *again)}
    unseen = [
        (plain, [row for row in again if row["question"] not in seen])
        for plain, again in stories
        if plain["story"] % WARM_EVERY and plain["question"] not in seen
    ]
    return {
        PLAIN: [plain for plain, _ in warm],
        RETOLD: [row for _, again in warm for row in again],
        UNSEEN: [plain for plain, _ in unseen],
        POOL: [row for _, again in unseen for row in again],
        SCREENED: [row for plain, again in unseen for row in (plain, *again[:SCREENED_RETELLINGS])],
        VALIDATION: list(validation),
        VALIDATION_RETOLD: list(_by_turns(asked_again))[:validation_retold],
    }


def retellings(row: Row, wanted: int) -> list[Row]:
    """At most so many different retellings of a row; the same ones every time."""
    story = read_story({"question": row["question"], "answer": row["answer"]})
    if story is None:
        return []
    rng = random.Random(f"retold {row['story']}")  # noqa: S311 - no secret depends on it
    found: dict[str, Row] = {}
    for _ in range(TRIES * wanted):
        told = retell(story, rng)
        if told is not None:
            found.setdefault(told["question"], {**told, "story": row["story"]})
        if len(found) == wanted:
            break
    return list(found.values())


def save(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def load(path: Path) -> list[Row]:
    """Read what `save` wrote, were it no row."""
    if not path.stat().st_size:
        return []
    return [dict(row.fields) for row in text_rows(path)]


def _by_turns(lists: Sequence[Sequence[Row]]) -> Iterator[Row]:
    """The first of each list, then the second of each, and so on."""
    for place in range(max(map(len, lists))):
        yield from (rows[place] for rows in lists if place < len(rows))


if __name__ == "__main__":
    run_command(main)

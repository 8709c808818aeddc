"""Which problem is used where: pretraining, GRPO and the exams share no question."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum import generate
from scales import Scale

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import read_jsonl
from xmlgrpo_trainer.tiny.story import Row

KEPT_FOR_GRPO = 5  # every fifth row of GSM8K's train split is kept from pretraining


@dataclass(frozen=True, slots=True)
class Splits:
    """All problems; no question is in two of them.

    Attributes:
        pretraining: rows of GSM8K's train split.
        grpo: other rows of it, and made-up problems.
        held_out: made-up problems to ask.
        test: rows of GSM8K's test split to ask.
    """

    pretraining: list[Row]
    grpo: list[Row]
    held_out: list[Row]
    test: list[Row]

    def not_pretrained_on(self) -> frozenset[str]:
        """The questions of all but the first."""
        return frozenset(row["question"] for row in [*self.grpo, *self.held_out, *self.test])


def make_splits(gsm8k: Path, scale: Scale, seed: int) -> Splits:
    """Read GSM8K and make up the rest.

    Raises:
        UserError: a file of GSM8K cannot be read, or a question is trained on and asked.
    """
    train = [_row(row.fields) for row in read_jsonl(gsm8k / "train.jsonl")]
    test = [_row(row.fields) for row in read_jsonl(gsm8k / "test.jsonl")]
    kept = [_place(row, seed) % KEPT_FOR_GRPO == 0 for row in train]
    held_out = generate(scale.held_out, f"held out {seed}", easy=scale.easy_share)
    asked = {row["question"] for row in held_out}
    grpo = generate(scale.generated, f"grpo {seed}", easy=scale.easy_share, exclude=asked)
    grpo += [row for row, is_kept in zip(train, kept, strict=True) if is_kept]
    random.Random(f"order {seed}").shuffle(grpo)  # noqa: S311 - no secret depends on it
    splits = Splits(
        pretraining=[row for row, is_kept in zip(train, kept, strict=True) if not is_kept],
        grpo=grpo,
        held_out=held_out,
        test=test[: scale.gsm8k_test],
    )
    shared = splits.not_pretrained_on() & {row["question"] for row in splits.pretraining}
    trained = {row["question"] for row in splits.grpo}
    shared |= trained & {row["question"] for row in [*splits.held_out, *splits.test]}
    if shared:
        raise UserError(f"{len(shared)} questions are in two splits: {min(shared)!r}")
    return splits


def _row(fields: Mapping[str, Any]) -> Row:
    return {"question": fields["question"], "answer": fields["answer"]}


def _place(row: Row, seed: int) -> int:
    digest = hashlib.sha256(f"{seed}\0{row['question']}".encode()).digest()
    return int.from_bytes(digest[:8], "big")

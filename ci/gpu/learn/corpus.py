"""What the model is pretrained on: batches of token ids, made by worker processes as they are used.

A problem comes from the curriculum or from GSM8K's train split, the latter as it is or retold with
other numbers.  Its answer is one of four kinds, worked or blurted out, in the tags or in GSM8K's
plain style, as in the embedded default: both habits have to be in the model before GRPO can prefer
one of them.

Workers import neither torch nor transformers, so that many of them start in a second.
"""

import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import NamedTuple

import curriculum
import numpy as np
import numpy.typing as npt
import renumber
from tokenizers import Encoding, Tokenizer

from xmlgrpo_trainer.tiny.examples import target
from xmlgrpo_trainer.tiny.story import Row

# examples of a shard are sorted by length before they are cut into batches: the more, the less
# padding; but as many are thrown away by every worker when the mixture changes
SHARD_EXAMPLES = 512
SHARD_BATCHES = 8  # or as many examples as make about so many batches
EXAMPLE_TOKENS = 128  # about
AHEAD = 2  # shards a worker may be ahead of the training
ROUND_TO = 8  # tokens; lengths that repeat let the allocator reuse its blocks


Ids = npt.NDArray[np.int32]


class Mixture(NamedTuple):
    """Shares of what is drawn, independently of each other.

    Attributes:
        gsm8k: rows of GSM8K's train split; the others are made up.
        retold: of those rows, how many with other numbers.
        easy: of the made-up ones, how many are the embedded default's.
        worked: answers that show their steps.
        tagged: answers in the reply format.
    """

    gsm8k: float
    retold: float
    easy: float
    worked: float
    tagged: float


class Batch(NamedTuple):
    """Examples padded on the right.

    Attributes:
        ids_B_T: prompt, then reply, then padding (id 0).
        prompts_B, ends_B: where the reply of a row begins and ends.
    """

    ids_B_T: Ids  # noqa: N815 - a tensor carries its axes in the name
    prompts_B: Ids  # noqa: N815
    ends_B: Ids  # noqa: N815


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker needs to know.

    Attributes:
        tokenizer: path of `tokenizer.json`.
        before, after: the chat template's text around a question.
        turn_end: what ends a reply.
        rows: of GSM8K's train split, for pretraining.
        exclude: questions that must not occur, retold or made up: all that are held out.
        max_tokens: longer examples are left out.
        batch_tokens: padding included.
        seed: of everything drawn.
    """

    tokenizer: str
    before: str
    after: str
    turn_end: str
    rows: Sequence[Row]
    exclude: frozenset[str]
    max_tokens: int
    batch_tokens: int
    seed: int


class Maker:
    """Makes the batches of a shard; one a worker process."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer = Tokenizer.from_file(recipe.tokenizer)
        stories = [renumber.read_story(row) for row in recipe.rows]
        self.stories = [story for story in stories if story is not None]

    def shard(self, number: int, mixture: Mixture) -> list[Batch]:
        """The batches of one shard, in random order; the same number gives the same ones."""
        rng = random.Random(f"{self.recipe.seed} shard {number}")  # noqa: S311 - no secret in it
        wanted = max(SHARD_EXAMPLES, SHARD_BATCHES * self.recipe.batch_tokens // EXAMPLE_TOKENS)
        rows = [self._row(mixture, rng) for _ in range(wanted)]
        rows = [row for row in rows if row["question"] not in self.recipe.exclude]
        recipe = self.recipe
        prompts = [recipe.before + row["question"] + recipe.after for row in rows]
        replies = [
            target(
                row["answer"],
                worked=rng.random() < mixture.worked,
                tagged=rng.random() < mixture.tagged,
            )
            + recipe.turn_end
            for row in rows
        ]
        encoded = [
            (prompt.ids, reply.ids)
            for prompt, reply in zip(self._encode(prompts), self._encode(replies), strict=True)
        ]
        fitting = [pair for pair in encoded if len(pair[0]) + len(pair[1]) <= recipe.max_tokens]
        batches = cut(sorted(fitting, key=lambda p: len(p[0]) + len(p[1])), recipe.batch_tokens)
        rng.shuffle(batches)
        return batches

    def _encode(self, texts: list[str]) -> list[Encoding]:
        return self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    def _row(self, mixture: Mixture, rng: random.Random) -> Row:
        if not self.recipe.rows or rng.random() >= mixture.gsm8k:
            return curriculum.make(rng, mixture.easy)
        if self.stories and rng.random() < mixture.retold:
            told = renumber.retell(rng.choice(self.stories), rng)
            if told is not None:
                return told
        return rng.choice(self.recipe.rows)


def cut(pairs: Sequence[tuple[list[int], list[int]]], batch_tokens: int) -> list[Batch]:
    """Prompts and replies, sorted by length, as padded batches of at most `batch_tokens`."""
    batches: list[Batch] = []
    chosen: list[tuple[list[int], list[int]]] = []
    for pair in pairs:
        width = _rounded(len(pair[0]) + len(pair[1]))
        if chosen and (len(chosen) + 1) * width > batch_tokens:
            batches.append(_padded(chosen))
            chosen = []
        chosen.append(pair)
    return [*batches, _padded(chosen)] if chosen else batches


def _rounded(tokens: int) -> int:
    return -(-tokens // ROUND_TO) * ROUND_TO


def _padded(chosen: Sequence[tuple[list[int], list[int]]]) -> Batch:
    ends = [len(prompt) + len(reply) for prompt, reply in chosen]
    ids_B_T = np.zeros((len(chosen), _rounded(max(ends))), dtype=np.int32)
    for row, (prompt, reply) in enumerate(chosen):
        ids_B_T[row, : ends[row]] = prompt + reply
    return Batch(
        ids_B_T, np.array([len(prompt) for prompt, _ in chosen], np.int32), np.array(ends, np.int32)
    )


class Corpus:
    """Batches without end; `mixture` may be changed at any time and takes effect at once."""

    def __init__(self, recipe: Recipe, mixture: Mixture, workers: int) -> None:
        self.mixture = mixture
        self._workers = workers
        self._pool = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_start, initargs=(recipe,)
        )

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[Future[list[Batch]]] = deque()
        number, mixture = 0, self.mixture
        while True:
            if self.mixture != mixture:
                waiting.clear()  # made for the mixture before
                mixture = self.mixture
            while len(waiting) < self._workers * AHEAD:
                waiting.append(self._pool.submit(_shard, number, mixture))
                number += 1
            for batch in waiting.popleft().result():
                yield batch
                if self.mixture != mixture:
                    break

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)


_maker: Maker | None = None  # of this worker process


def _start(recipe: Recipe) -> None:
    global _maker  # noqa: PLW0603 - what a pool's initializer leaves for its tasks
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers are the parallelism
    _maker = Maker(recipe)


def _shard(number: int, mixture: Mixture) -> list[Batch]:
    if _maker is None:
        raise RuntimeError("the worker was not started by _start")
    return _maker.shard(number, mixture)

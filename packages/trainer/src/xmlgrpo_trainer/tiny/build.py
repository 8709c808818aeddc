"""Make the tiny model once, and find it again afterwards."""

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from xmlgrpo_rewards.reply import SYSTEM
from xmlgrpo_run.files import replacing, write_json
from xmlgrpo_run.lock import one_writer
from xmlgrpo_trainer.tiny.examples import Example, Mixture, examples, target
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.problems import Row, warm_problems
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer
from xmlgrpo_trainer.tiny.warm_start import OnProgress, train_on

DESCRIPTION = "tiny.json"  # written last: a folder that has it is complete
TOKENIZER_ROWS = 3000


class WarmStart(NamedTuple):
    """What a base learns from before any GRPO."""

    texts: Sequence[str]  # for the tokenizer's pieces
    examples: Callable[[PreTrainedTokenizerBase], list[Example]]


def ensure_tiny_model(
    cache_root: Path,
    settings: TinySettings,
    seed: int,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Path:
    """The folder of the tiny model, built under `cache_root` if it is not there yet.

    It is a complete Hugging Face model folder with `tokenizer.model` and `tiny.json` (settings,
    steps, seed, loss, and the seconds of the call that finished it), named by a digest of the
    settings, the seed and the code that builds it.  An interrupted build leaves its state, and the
    next call goes on there; of two processes that ask at once, one builds and the other waits.
    Torch's global generator and number of threads are the same afterwards.

    Args:
        on_progress: called before the first step of a build and every few steps, never when the
            model is there.
        on_wait: called when another process has begun to build it.
    """
    folder = cache_root / f"tiny-{digest(settings, seed)}"

    def warm_start() -> WarmStart:
        rows = warm_problems(settings, seed)
        return WarmStart(_tokenizer_texts(rows), lambda it: _examples(it, rows, settings, seed))

    return ensure_built(
        folder, settings, seed, warm_start, on_progress=on_progress, on_wait=on_wait
    )


def digest(settings: TinySettings, seed: int) -> str:
    """Twelve hexadecimal digits that change with anything that changes the model."""
    return digest_of([dataclasses.asdict(settings), seed, SYSTEM], Path(__file__).parent)


def digest_of(decides: Any, *code: Path) -> str:
    """Twelve hexadecimal digits of what JSON can hold and of the code in some folders."""
    recipe = hashlib.sha256(json.dumps(decides).encode())
    for source in sorted(path for folder in code for path in folder.iterdir()):
        if source.suffix in (".py", ".jinja"):
            recipe.update(source.read_bytes())
    return recipe.hexdigest()[:12]


def ensure_built(
    folder: Path,
    settings: TinySettings,
    seed: int,
    warm_start: Callable[[], WarmStart],
    *,
    on_progress: OnProgress | None,
    on_wait: Callable[[], None],
    **about: str | None,
) -> Path:
    """The folder of a tiny base, built as `ensure_tiny_model` says if it is not there yet.

    Args:
        about: what `tiny.json` says first.
    """
    kept = folder.with_name(f".{folder.name}.safetensors")
    with one_writer(folder.with_name(f".{folder.name}.lock"), "", on_wait=on_wait):
        if not (folder / DESCRIPTION).is_file():
            with replacing(folder) as partial:
                started = time.perf_counter()
                texts, examples_for = warm_start()
                tokenizer = train_tokenizer(partial, texts, settings.vocab_size)
                model = make_model(settings, tokenizer, seed)
                loss = train_on(
                    model, examples_for(tokenizer), settings, seed, on_progress, kept=kept
                )
                model.save_pretrained(partial)
                description = {
                    **about,
                    "settings": dataclasses.asdict(settings),
                    "seed": seed,
                    "steps": settings.warm_steps,
                    "loss": loss,
                    "seconds": round(time.perf_counter() - started, 1),
                }
                write_json(partial / DESCRIPTION, description)
        kept.unlink(missing_ok=True)
    return folder


def _examples(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], settings: TinySettings, seed: int
) -> list[Example]:
    """Skill first, habit last."""
    rng = random.Random(f"kinds {seed}")  # noqa: S311 - no secret depends on it
    habit = round(settings.warm_steps * (1 - settings.habit_share)) * settings.warm_batch
    before = Mixture(settings.worked_before, settings.tagged)
    after = Mixture(settings.worked_habit, settings.tagged)
    return [
        *examples(tokenizer, rows[:habit], before, rng),
        *examples(tokenizer, rows[habit:], after, rng),
    ]


def _tokenizer_texts(rows: Sequence[Row]) -> list[str]:
    """What the model will read and write, the four kinds of answer in equal parts."""
    chosen = rows[:TOKENIZER_ROWS]
    replies = [
        target(row["answer"], worked=number % 2 == 0, tagged=number % 4 < 2)
        for number, row in enumerate(chosen)
    ]
    return [SYSTEM] * len(chosen) + [row["question"] for row in chosen] + replies

"""Make the tiny model once, and find it again afterwards."""

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
    kept = cache_root / f".{folder.name}.safetensors"
    lock = cache_root / f".{folder.name}.lock"
    with one_writer(lock, "", on_wait=on_wait):
        if not (folder / DESCRIPTION).is_file():
            with replacing(folder) as partial:
                _build(partial, settings, seed, on_progress, kept)
        kept.unlink(missing_ok=True)
    return folder


def digest(settings: TinySettings, seed: int) -> str:
    """Twelve hexadecimal digits that change with anything that changes the model."""
    recipe = hashlib.sha256()
    recipe.update(json.dumps([dataclasses.asdict(settings), seed, SYSTEM]).encode())
    for source in sorted(Path(__file__).parent.iterdir()):
        if source.suffix in (".py", ".jinja"):
            recipe.update(source.read_bytes())
    return recipe.hexdigest()[:12]


def _build(
    folder: Path,
    settings: TinySettings,
    seed: int,
    on_progress: OnProgress | None,
    kept: Path,
) -> None:
    started = time.perf_counter()
    rows = warm_problems(settings, seed)
    tokenizer = train_tokenizer(folder, _tokenizer_texts(rows), settings.vocab_size)
    model = make_model(settings, tokenizer, seed)
    loss = train_on(
        model,
        _warm_examples(tokenizer, rows, settings, seed),
        batch=settings.warm_batch,
        threads=settings.warm_threads,
        muon_lr=settings.muon_lr,
        adamw_lr=settings.adamw_lr,
        seed=seed,
        on_progress=on_progress,
        kept=kept,
    )
    model.save_pretrained(folder)
    description = {
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "steps": settings.warm_steps,
        "loss": loss,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(folder / DESCRIPTION, description)


def _warm_examples(
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

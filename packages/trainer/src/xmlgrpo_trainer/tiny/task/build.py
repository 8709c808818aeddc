"""Make the tiny base of a task once, and find it again afterwards."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from xmlgrpo_rewards.task import Task
from xmlgrpo_run.files import replacing, write_json
from xmlgrpo_run.lock import one_writer
from xmlgrpo_trainer.tiny.model import make_model
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.task.replies import replies, tokenized
from xmlgrpo_trainer.tiny.task.rows import warm_problems
from xmlgrpo_trainer.tiny.tokenizer import train_tokenizer
from xmlgrpo_trainer.tiny.warm_start import OnProgress, train_on

DESCRIPTION = "tiny.json"  # as of the default's base: written last, so that it means "complete"
TOKENIZER_ROWS = 3000
MOST_PROBLEMS = 4000  # of the warm start; where it has more steps they are shown again
FIRST = 50


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides a task's tiny base."""

    task: Task
    level: str | None  # of its generated rows
    settings: TinySettings
    seed: int


def ensure_task_model(
    cache_root: Path,
    recipe: Recipe,
    on_progress: OnProgress | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Path:
    """The folder of a task's tiny model, built under `cache_root` if it is not there yet.

    It is as `ensure_tiny_model` makes the default's, with a tokenizer trained on the task's own
    texts, and is named by the task and a digest of all that it is made of.

    Args:
        on_progress, on_wait: as for `ensure_tiny_model`.
    """
    folder = cache_root / f"tiny-{recipe.task.name}-{_digest(recipe)}"
    kept = cache_root / f".{folder.name}.safetensors"
    with one_writer(cache_root / f".{folder.name}.lock", "", on_wait=on_wait):
        if not (folder / DESCRIPTION).is_file():
            with replacing(folder) as partial:
                _build(partial, recipe, on_progress, kept)
        kept.unlink(missing_ok=True)
    return folder


def _digest(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that change with what changes the model.

    A generator is known by its first rows: to make all takes as long as a hundred steps.
    """
    task, level, seed = recipe.task, recipe.level, recipe.seed
    first = [
        (one.question, one.solution, one.gold) for one in warm_problems(task, level, seed, FIRST)
    ]
    decides = [dataclasses.asdict(recipe.settings), seed, level, task.messages(""), first]
    digest = hashlib.sha256(json.dumps(decides).encode())
    here = Path(__file__).parent
    for source in sorted(path for folder in (here, here.parent) for path in folder.iterdir()):
        if source.suffix in (".py", ".jinja"):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _build(folder: Path, recipe: Recipe, on_progress: OnProgress | None, kept: Path) -> None:
    started = time.perf_counter()
    task, settings, seed = recipe.task, recipe.settings, recipe.seed
    shown = settings.warm_steps * settings.warm_batch
    problems = warm_problems(task, recipe.level, seed, min(shown, MOST_PROBLEMS))
    problems = list(islice(cycle(problems), shown))
    texts = replies(problems, settings, seed)
    chosen = [problem.question for problem in problems[:TOKENIZER_ROWS]]
    instructions = [turn["content"] for turn in task.messages("")] * len(chosen)
    read = [*instructions, *chosen, *texts[:TOKENIZER_ROWS]]
    tokenizer = train_tokenizer(folder, read, settings.vocab_size)
    model = make_model(settings, tokenizer, seed)
    loss = train_on(
        model,
        tokenized(tokenizer, task, problems, texts),
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
        "task": task.name,
        "level": recipe.level,
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "steps": settings.warm_steps,
        "loss": loss,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(folder / DESCRIPTION, description)

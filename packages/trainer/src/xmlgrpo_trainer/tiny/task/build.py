"""Make the tiny base of a task once, and find it again afterwards."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from xmlgrpo_rewards.task import Task
from xmlgrpo_trainer.tiny.build import TOKENIZER_ROWS, WarmStart, digest_of, ensure_built
from xmlgrpo_trainer.tiny.examples import tokenized
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.task.replies import replies
from xmlgrpo_trainer.tiny.task.rows import warm_problems
from xmlgrpo_trainer.tiny.warm_start import OnProgress

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
    task, settings, seed = recipe.task, recipe.settings, recipe.seed
    folder = cache_root / f"tiny-{task.name}-{_digest(recipe)}"

    def warm_start() -> WarmStart:
        shown = settings.warm_steps * settings.warm_batch
        different = warm_problems(task, recipe.level, seed, min(shown, MOST_PROBLEMS))
        problems = list(islice(cycle(different), shown))
        texts = replies(problems, settings, seed)
        chosen = [problem.question for problem in problems[:TOKENIZER_ROWS]]
        instructions = [turn["content"] for turn in task.messages("")] * len(chosen)
        questions = [problem.question.strip() for problem in problems]
        return WarmStart(
            [*instructions, *chosen, *texts[:TOKENIZER_ROWS]],
            lambda tokenizer: tokenized(tokenizer, task.messages, questions, texts),
        )

    return ensure_built(
        folder,
        settings,
        seed,
        warm_start,
        on_progress=on_progress,
        on_wait=on_wait,
        task=task.name,
        level=recipe.level,
    )


def _digest(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that change with what changes the model.

    A generator is known by its first rows: to make all takes as long as a hundred steps.
    """
    task, level, seed = recipe.task, recipe.level, recipe.seed
    first = [
        (one.question, one.solution, one.gold) for one in warm_problems(task, level, seed, FIRST)
    ]
    decides = [dataclasses.asdict(recipe.settings), seed, level, task.messages(""), first]
    here = Path(__file__).parent
    return digest_of(decides, here, here.parent)

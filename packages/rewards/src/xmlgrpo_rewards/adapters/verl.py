r"""A `compute_score` for verl, for rows of every installed task.

    xmlgrpo-rows json_qa data --for verl
    python -m verl.trainer.main_ppo data.train_files=data/train.jsonl \
        data.val_files=data/test.jsonl \
        reward.custom_reward_function.path=pkg://xmlgrpo_rewards.adapters.verl \
        reward.custom_reward_function.name=compute_score ...

A row's `data_source` is the name of its task.
"""

from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

from xmlgrpo_rewards.grading import grades
from xmlgrpo_rewards.task import Example, Task, default_rewards, get_task
from xmlgrpo_rewards.total import load_rewards, total

_one_at_a_time = Lock()  # verl asks from several threads; grades are kept in one place
_task = lru_cache(get_task)


def row(task: Task, example: Example) -> dict[str, Any]:
    """A problem as a row of verl's data set."""
    return {
        "data_source": task.name,
        "prompt": task.messages(example.question),
        "ability": task.name,
        "reward_model": {"style": "rule", "ground_truth": example.gold},
        "extra_info": {"id": example.id, "question": example.question, "judge": example.judge},
    }


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any] | None = None,
    **_others: object,
) -> dict[str, float]:
    """What the task pays by default: `score`; `acc` is 1 for a strictly right reply; each part."""
    task, info = _task(data_source), extra_info or {}
    columns = {name: [str(info.get(name, ""))] for name in ("id", "question", "judge")}
    columns["answer"] = [ground_truth]
    with _one_at_a_time:
        [paid] = total(load_rewards(default_rewards(task), task), [solution_str], **columns)
        [grade] = grades(task, [solution_str], columns)
    parts = {name: part or 0.0 for name, part in paid.parts.items()}
    return {"score": paid.value, "acc": float(grade.strict_correct), **parts}

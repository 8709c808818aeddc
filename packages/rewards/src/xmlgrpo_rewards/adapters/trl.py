"""Rewards for trl's own command, by import path.

    xmlgrpo-rows json_qa data --for trl
    trl grpo --reward_funcs xmlgrpo_rewards.adapters.trl.json_qa --dataset_name data ...

The name of a task is all that it pays by default, as one number; `json_qa_correctness` and so on
are its rewards one by one, to be logged, or weighed by `--reward_weights`, each for itself.
"""

from collections.abc import Sequence
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, Task, default_rewards, get_task, task_names
from xmlgrpo_rewards.total import RewardFunction, load_rewards, total


def row(task: Task, example: Example) -> dict[str, Any]:
    """A problem as a row of trl's data set: `prompt`, and the columns that the rewards read."""
    return {
        "prompt": task.messages(example.question),
        "answer": example.gold,
        "id": example.id,
        "question": example.question,
        "judge": example.judge,
    }


def __getattr__(name: str) -> RewardFunction:
    """The reward of this name, TASK or TASK_REWARD."""
    for task_name in sorted(task_names(), key=len, reverse=True):
        only = name.removeprefix(f"{task_name}_")
        if name == task_name or only != name:
            try:
                return _reward(name, get_task(task_name), None if name == task_name else only)
            except UserError as error:
                raise AttributeError(str(error)) from None
    raise AttributeError(f"expected TASK or TASK_REWARD, got {name!r}; tasks: {task_names()}")


def _reward(name: str, task: Task, only: str | None) -> RewardFunction:
    rewards = load_rewards(default_rewards(task) if only is None else {only: 1.0}, task)

    def reward(completions: Sequence[Any], **columns: object) -> list[float]:
        return [paid.value for paid in total(rewards, completions, **columns)]

    reward.__name__ = name  # what trl logs it by
    return reward

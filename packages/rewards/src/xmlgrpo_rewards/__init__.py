"""What a good answer is: the reply format, the tasks and the reward functions.

Standard library only.  The trainer pays with it, the evaluator grades with it, the exporter checks
with it, so that all of them mean the same by a right answer.
"""

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import grades
from xmlgrpo_rewards.interval import Share
from xmlgrpo_rewards.numbers import last_number, parse_number
from xmlgrpo_rewards.reply import FORMAT_VERSION, SYSTEM, TAGS, Reply, messages, parse, render
from xmlgrpo_rewards.scores import (
    correctness_reward_func,
    int_reward_func,
    soft_format_reward_func,
    strict_format_reward_func,
    xmlcount_reward_func,
)
from xmlgrpo_rewards.task import BadRow, Example, Grade, Hack, Task, Words, get_task, task_names
from xmlgrpo_rewards.total import Total, WeightedReward, load_rewards, total

__all__ = [
    "FORMAT_VERSION",
    "SYSTEM",
    "TAGS",
    "BadRow",
    "Example",
    "Grade",
    "Hack",
    "Reply",
    "Share",
    "Task",
    "Total",
    "UserError",
    "WeightedReward",
    "Words",
    "correctness_reward_func",
    "get_task",
    "grades",
    "int_reward_func",
    "last_number",
    "load_rewards",
    "messages",
    "parse",
    "parse_number",
    "render",
    "soft_format_reward_func",
    "strict_format_reward_func",
    "task_names",
    "total",
    "xmlcount_reward_func",
]

"""SQL: a schema with rows and a question; the answer is one SELECT, graded by running it.

Each row has two databases or more over one schema; a query is right when it gives what the gold
gives on every one of them.
"""

from typing import get_args

from xmlgrpo_rewards.task import Words
from xmlgrpo_tasks.graded_task import GradedTask, rewards_of
from xmlgrpo_tasks.sql import generate, gold, grading, hacks, rows

TASK = GradedTask(
    name="sql",
    dataset="gretelai/synthetic_text_to_sql",
    dataset_revision="273a86f5f290e8d61b6767a9ff690c82bc990dc4",
    words=Words(answer="query"),
    levels=get_args(generate.Level),
    rewards=rewards_of(executes=grading.EXECUTES),
    example=rows.example_of,
    row=rows.row_of,
    grade_many=grading.grade_many,
    gold_fault=gold.gold_fault,
    hacks=hacks.hacks,
    generated=generate.generated,
)

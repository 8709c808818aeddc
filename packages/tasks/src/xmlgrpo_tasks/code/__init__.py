"""Code: write a Python function, graded by what it returns in cases that are not shown."""

from typing import get_args

from xmlgrpo_rewards.task import Words
from xmlgrpo_tasks.code import generate, gold, grading, hacks, rows
from xmlgrpo_tasks.graded_task import GradedTask, rewards_of
from xmlgrpo_tasks.workers import sandbox

TASK = GradedTask(
    name="code",
    dataset="google-research-datasets/mbpp",
    dataset_config="full",
    words=Words(answer="program"),
    levels=get_args(generate.Level),
    rewards=rewards_of(defines_entry=grading.DEFINES),
    rules="Answer with Python code that defines the function. Use the standard library only; read "
    "and print nothing.",
    ready=lambda: sandbox.choose().sentence,
    example=rows.example_of,
    row=rows.row_of,
    grade_many=grading.grade_many,
    gold_fault=gold.gold_fault,
    hacks=hacks.hacks,
    generated=generate.generated,
)

"""JSON answers: a passage, a question and a JSON Schema; the answer must be valid and right."""

from typing import get_args

from xmlgrpo_rewards.task import Words
from xmlgrpo_tasks.graded_task import GradedTask, rewards_of
from xmlgrpo_tasks.json_qa import generate, gold, grading, hacks, rows

TASK = GradedTask(
    name="json_qa",  # its rows are made on the spot, or stand in a file of yours
    words=Words(answer="JSON object"),
    levels=get_args(generate.Level),
    rewards=rewards_of(parses=grading.PARSES, valid=grading.VALID),
    example=rows.example_of,
    row=rows.row_of,
    grade_many=grading.grade_many,
    gold_fault=gold.gold_fault,
    hacks=hacks.hacks,
    generated=generate.generated,
)

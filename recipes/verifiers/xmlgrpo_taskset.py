"""A taskset for verifiers (0.4): rows of any installed task, paid and checked as here.

    export PYTHONPATH=recipes/verifiers   # verifiers finds a taskset by the name of its module
    vf-validate xmlgrpo-taskset --taskset.task-name json_qa --runtime.type subprocess
    vf-eval xmlgrpo-taskset --env.taskset.task-name json_qa --env.taskset.path data/test.jsonl ...

Its gold check is the task's own, and that the gold reply is graded right.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import verifiers.v1 as vf

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import grade_all
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_rewards.task import Example, default_rewards, extras, get_task
from xmlgrpo_rewards.total import load_rewards, total


class RowData(vf.TaskData):
    """A problem; what stands besides the prompt is never shown to a model."""

    task_name: str
    question: str
    gold: str
    solution: str
    judge: str

    def example(self) -> Example:
        """The problem as its task knows it."""
        return Example(self.id or "", self.question, self.gold, self.solution, self.judge)


class RowTask(vf.Task[RowData]):
    """Pays and measures as training here does."""

    @vf.reward(weight=1.0)
    async def paid(self, trace: vf.Trace) -> dict[str, float]:
        """Each reward of the task and of the form, by its name."""
        task, example = get_task(self.data.task_name), self.data.example()
        columns = {
            "id": [example.id],
            "question": [example.question],
            "answer": [example.gold],
            "judge": [example.judge],
        }
        rewards = load_rewards(default_rewards(task), task)
        [earned] = total(rewards, [trace.last_reply], **columns)
        return {name: part or 0.0 for name, part in earned.parts.items()}

    @vf.metric
    async def graded(self, trace: vf.Trace) -> dict[str, float]:
        """The task's grade: strictly right, leniently right, answered."""
        task = get_task(self.data.task_name)
        [grade] = grade_all(task, [trace.last_reply], [self.data.example()])
        names = ("strict_correct", "lenient_correct", "answered")
        return {name: float(getattr(grade, name)) for name in names}

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the gold is sound, and its reply right."""
        task, example = get_task(self.data.task_name), self.data.example()
        gold = render(example.solution or "The answer is known.", example.gold)
        [grade] = grade_all(task, [gold], [example])
        return grade.strict_correct and extras(task).gold_fault(example) is None


class RowsConfig(vf.TasksetConfig):
    """Which rows: of a file, or else so many that the task makes."""

    task_name: str = "gsm8k"
    path: Path | None = None
    rows: int = 100
    seed: int = 0


class RowsTaskset(vf.Taskset[RowTask, RowsConfig]):
    """The rows as verifiers' tasks."""

    def load(self) -> Iterator[RowTask]:
        """One task a row, in order."""
        task = get_task(self.config.task_name)
        for number, fields in enumerate(self._rows(), start=1):
            example = task.example(fields, f"row-{number}")
            system, user = task.messages(example.question)
            data = RowData(
                id=example.id,
                system_prompt=system["content"],
                prompt=user["content"],
                task_name=task.name,
                question=example.question,
                gold=example.gold,
                solution=example.solution,
                judge=example.judge,
            )
            yield RowTask(data, self.config.task)

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        if self.config.path is not None:
            # all at once: who takes a few would not learn that others cannot be read
            return iter([row.fields for row in text_rows(self.config.path)])
        generated = extras(get_task(self.config.task_name)).generated
        if generated is None:
            raise UserError(
                f"the task {self.config.task_name!r} makes no rows; give it a file: --taskset.path"
            )
        return generated(self.config.rows, self.config.seed)


__all__ = ["RowsTaskset"]

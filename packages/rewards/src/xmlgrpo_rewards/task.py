"""What a task is, and how the installed ones are found.

A task says where its rows come from, what is asked, and what a right answer is.  It is one object
that has the attributes of `Task`; a distribution offers it through the entry point group
`xmlgrpo.tasks`, so a third party adds a task without touching this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from xmlgrpo_rewards.errors import UserError, did_you_mean

TASK_GROUP = "xmlgrpo.tasks"
_SHOWN_CHARS = 160


@dataclass(frozen=True, slots=True)
class Example:
    """One problem of a task."""

    id: str  # names the row in messages and results, such as `test-17`
    question: str  # what the user asks, without instructions about the form of the reply
    gold: str  # the right answer, as it would stand in the answer block; never empty
    solution: str  # worked out, as it would stand in the reasoning block; may be empty


@dataclass(frozen=True, slots=True)
class Grade:
    """What one reply is worth.  Right, wrong and no answer are three outcomes, not two."""

    strict_correct: bool  # the reply has the strict form and the answer in its block is right
    lenient_correct: bool  # the right answer was reached, whatever the form of the reply
    strict_format: bool  # the reply is exactly the form that was asked for
    soft_format: bool  # the same but for white space
    answered: bool  # an answer could be read, right or wrong
    answer: str | None  # as it was read; None when there is none


@dataclass(frozen=True, slots=True)
class Words:
    """The words for a task's metrics, in tables and plots."""

    answer: str = "answer"  # what an answer is, such as `number`
    # what shows that a problem was worked out, such as `a sum is written`; None where
    # `numbers.is_worked`, which looks for sums, has nothing to find
    worked: str | None = None


@runtime_checkable
class Task(Protocol):
    """The object behind an entry point of the group `xmlgrpo.tasks`.

    It may have an attribute `words`, too: its `Words`, in place of the plain ones.
    """

    @property
    def name(self) -> str:
        """The name in configs and on the command line; also the name of the entry point."""

    @property
    def dataset(self) -> str:
        """The data set's id on the Hub.  Loading it is the caller's business."""

    @property
    def dataset_config(self) -> str | None:
        """The configuration of the data set; None for its only one."""

    @property
    def dataset_revision(self) -> str | None:
        """The commit of the data set, so that a run can be repeated; None when not known."""

    def example(self, row: Mapping[str, Any], row_id: str, /) -> Example:
        """Read one row of the data set.

        Raises:
            BadRow: a field is missing, has another type, or holds no gold answer.
        """

    def row(self, example: Example, /) -> dict[str, Any]:
        """Write a problem as a row, of what JSON can hold, that `example` reads back the same.

        A run keeps its held-out problems so, for any evaluation that reads this task's rows.
        """

    def messages(self, question: str, /) -> list[dict[str, str]]:
        """The chat that asks `question`, for any chat template."""

    def grade(self, text: str, gold: str, /) -> Grade:
        """Grade a completion against the gold answer.  Never raises for what a model wrote."""


class BadRow(UserError):  # noqa: N818 - what is wrong, as UserError is whose it is
    """A row of a data set that cannot be a problem with one gold answer."""

    def __init__(self, row_id: str, expected: str, got: object) -> None:
        shown = repr(got)
        if len(shown) > _SHOWN_CHARS:
            shown = f"{shown[:_SHOWN_CHARS]}... ({len(shown):,} characters)"
        super().__init__(
            f"row {row_id}: expected {expected}, got {shown}; correct the row or leave it out"
        )
        self.row_id = row_id


def task_names() -> list[str]:
    """The names of the installed tasks, sorted."""
    return sorted(_installed())


def get_task(name: str) -> Task:
    """Load an installed task by its name.

    Raises:
        UserError: no such task, two distributions offer it, or it cannot be loaded.
    """
    installed = _installed()
    if name not in installed:
        listed = ", ".join(sorted(installed)) or "none (install xmlgrpo-rewards with pip)"
        near = did_you_mean(name, installed)
        raise UserError(f"no task is named {name!r}; installed tasks: {listed}{near}")
    offers = installed[name]
    if len(offers) > 1:
        raise UserError(
            f"the task {name!r} is offered twice, by {' and by '.join(sorted(offers))}; "
            "uninstall one of them"
        )
    [(value, entry_point)] = offers.items()
    try:
        task = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"the task {name!r} ({value}) cannot be loaded: {error}") from error
    if not isinstance(task, Task):
        raise UserError(
            f"the task {name!r} ({value}) lacks something of xmlgrpo_rewards.task.Task: "
            f"got {type(task).__name__}; see docs/add-a-task.md"
        )
    return task


def _installed() -> dict[str, dict[str, EntryPoint]]:
    """Name -> import path -> entry point: the same path found twice on sys.path is one offer."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry_point in entry_points(group=TASK_GROUP):
        found.setdefault(entry_point.name, {})[entry_point.value] = entry_point
    return found

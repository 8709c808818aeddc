"""What a task is, and how the installed ones are found.

A task says where its rows come from, what is asked, and what a right answer is.  It is one object
that has the attributes of `Task`; a distribution offers it through the entry point group
`xmlgrpo.tasks`, so a third party adds a task without touching this package.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from xmlgrpo_rewards.errors import UserError, did_you_mean

TASK_GROUP = "xmlgrpo.tasks"
DEFAULT_TASK = "gsm8k"  # where nothing names one
FORM_REWARDS = ("strict_format_reward_func", "soft_format_reward_func", "xmlcount_reward_func")
CLASSIC_REWARDS = ("correctness_reward_func", "int_reward_func", *FORM_REWARDS)
# a part of paths, of import paths and of variables, as it stands
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SHOWN_CHARS = 160


@dataclass(frozen=True, slots=True)
class Example:
    """One problem of a task."""

    id: str  # names the row in messages and results, such as `test-17`
    question: str  # what the user asks, without instructions about the form of the reply
    gold: str  # the right answer, as it would stand in the answer block; never empty
    solution: str  # worked out, as it would stand in the reasoning block; may be empty
    # what grading needs and the model must never see (databases, hidden cases), as JSON; empty
    # where the gold is all that is needed
    judge: str = ""

    @property
    def steps(self) -> int:
        """How hard it is: the lines of its worked solution; 0 where there is none."""
        return sum(bool(line.strip()) for line in self.solution.split("\n"))


@dataclass(frozen=True, slots=True)
class Grade:
    """What one reply is worth.  Right, wrong and no answer are three outcomes, not two."""

    strict_correct: bool  # the reply has the strict form and the answer in its block is right
    lenient_correct: bool  # the right answer was reached, whatever the form of the reply
    strict_format: bool  # the reply is exactly the form that was asked for
    soft_format: bool  # the same but for white space
    answered: bool  # an answer could be read, right or wrong
    answer: str | None  # as it was read; None when there is none
    note: str = ""  # why it is not right, for people: `timeout`, `2 of 5 cases`
    share: float | None = None  # of its parts that are right (cases, leaves): measured, never paid
    parts: frozenset[str] = frozenset()  # what else it achieved, in the task's words: `executes`


@dataclass(frozen=True, slots=True)
class Words:
    """The words for a task's metrics, in tables and plots."""

    answer: str = "answer"  # what an answer is, such as `number`
    # what shows that a problem was worked out, such as `a sum is written`; None where
    # `numbers.is_worked`, which looks for sums, has nothing to find
    worked: str | None = None


@dataclass(frozen=True, slots=True)
class Hack:
    """One such reply."""

    name: str  # in reports and tests
    reply: str  # the whole completion
    # what the task's default rewards (`default_rewards`), with weight 1, pay at most in total
    earns: float


@runtime_checkable
class Task(Protocol):
    """The object behind an entry point of the group `xmlgrpo.tasks`.

    It may have more: see `Extras`.
    """

    @property
    def name(self) -> str:
        """The name in configs and on the command line; also the name of the entry point."""

    @property
    def dataset(self) -> str:
        """The data set's id on the Hub, which the caller loads; empty where there is none."""

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

    def grade(self, text: str, example: Example, /) -> Grade:
        """Grade a completion by the example's question, gold and `judge`; never its solution.

        It never raises for what a model wrote.
        """


@dataclass(frozen=True, slots=True)
class Extras:
    """What a task may have besides: attributes of these names.  `extras` gives the defaults.

    Attributes:
        words: for tables and plots.
        rewards: the task's own, by the short names that a configuration's `rewards` may use.  Each
            pays from the grade alone, so what is paid is what is measured.  Without any the five
            classic rewards pay, which want numbers.
        ready: says in one line where replies are graded on this machine, for the start of a run;
            empty where there is nothing to say.  It raises UserError where they cannot be graded.
        grade_many: grades several texts, each with its example; for a task with a pool of workers.
        gold_fault: one sentence why a row can neither be trained nor measured on (its gold fails
            its own check, a constant would earn), or None; milliseconds a row.
        hacks: replies to an example that look for pay they did not earn; for a task that the
            classic rewards pay, `make validate` has some of its own.
        generated: `generated(count, seed)` makes rows with certain golds, the same for the same
            seed, no two alike.  None: the task has only what others wrote.
        levels: how hard `generated` can make them: names that it takes as a third argument.  One
            that a tiny model can learn is called `easy`.
    """

    words: Words
    rewards: Mapping[str, Callable[[Grade], float]]
    ready: Callable[[], str]
    grade_many: Callable[[Sequence[str], Sequence[Example]], Sequence[Grade]]
    gold_fault: Callable[[Example], str | None]
    hacks: Callable[[Example], Iterable[Hack]]
    generated: Callable[..., Iterator[dict[str, Any]]] | None
    levels: Sequence[str]


def extras(task: Task) -> Extras:
    """What `task` has of `Extras`, and what holds where it has not."""

    def grade_each(texts: Sequence[str], examples: Sequence[Example]) -> list[Grade]:
        return [task.grade(text, example) for text, example in zip(texts, examples, strict=True)]

    rewards = getattr(task, "rewards", {})
    return Extras(
        words=getattr(task, "words", Words()),
        rewards=rewards,
        ready=getattr(task, "ready", str),
        grade_many=getattr(task, "grade_many", grade_each),
        gold_fault=getattr(task, "gold_fault", lambda _example: None),
        hacks=getattr(task, "hacks", lambda _example: ()),
        generated=getattr(task, "generated", None),
        levels=getattr(task, "levels", ()),
    )


def default_rewards(task: Task) -> dict[str, float]:
    """What pays where nothing is said: the task's own rewards and the form, or the five classic."""
    own = extras(task).rewards
    return dict.fromkeys((*own, *FORM_REWARDS) if own else CLASSIC_REWARDS, 1.0)


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


class FaultyRow(UserError):  # noqa: N818 - as `BadRow`
    """A row that is a problem, and one that nothing can be learned from or measured on."""

    def __init__(self, row_id: str, fault: str) -> None:
        super().__init__(f"row {row_id}: {fault}")


def sound_example(task: Task, row: Mapping[str, Any], row_id: str) -> Example:
    """Read one row that is to be trained or measured on.

    Raises:
        BadRow: it is no problem.
        FaultyRow: the task finds a fault with its gold (`Extras.gold_fault`).
    """
    example = task.example(row, row_id)
    if fault := extras(task).gold_fault(example):
        raise FaultyRow(row_id, fault)
    return example


def data_variable(task: str) -> str:
    """The environment variable that names a folder of a task's rows: `GSM8K_DIR`."""
    return f"{task.upper().replace('-', '_')}_DIR"


def task_names() -> list[str]:
    """The names of the installed tasks, sorted."""
    return sorted(_installed())


def get_task(name: str) -> Task:
    """Load an installed task by its name.

    Raises:
        UserError: no such task, two distributions offer it, it cannot be loaded, or it is called
            otherwise than it is offered.
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
    if task.name != name or not TASK_NAME.fullmatch(name):
        raise UserError(
            f"the task {name!r} ({value}): expected this as its `name`, of letters, digits, - and "
            f"_, got {task.name!r}; correct the entry point or the name"
        )
    return task


def _installed() -> dict[str, dict[str, EntryPoint]]:
    """Name -> import path -> entry point: the same path found twice on sys.path is one offer."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry_point in entry_points(group=TASK_GROUP):
        found.setdefault(entry_point.name, {})[entry_point.value] = entry_point
    return found

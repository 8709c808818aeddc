"""Problems: read or made, cut into training, validation and held-out report, none shared.

Held-out rows are cut from the training split: the test split belongs to `make eval`.  The cut goes
by a hash of the question, so it does not depend on the order of the rows, and a question that
occurs twice lies on one side only.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xmlgrpo_rewards import scores
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.rows import BadRows, Row, files_of
from xmlgrpo_rewards.task import Example, FaultyRow, Task, extras, sound_example
from xmlgrpo_run.rows import read_rows
from xmlgrpo_trainer.config.library_fields import tiny_settings
from xmlgrpo_trainer.config.run_config import DataConfig, HoldoutConfig, RunConfig
from xmlgrpo_trainer.problems.prompts import encode_prompts
from xmlgrpo_trainer.tiny.task.rows import check_level, has_own_base, run_problems


@dataclass(frozen=True, slots=True)
class Problems:
    """What a run trains on and what it is measured on."""

    train: list[Example]
    validation: list[Example]  # asked during training; chooses the checkpoint
    report: list[Example]  # asked before and after; chooses nothing
    source: str  # in words
    dropped_long: int = 0  # prompts over the limit, left out
    repeated: int = 0  # rows with an earlier row's question, left out
    faulty: tuple[str, ...] = ()  # a sentence for each row that was left out for its gold

    def sha256(self) -> str:
        """A hash of every question, its gold answer and what else judges, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.report):
            digest.update(b"\0part\0")
            for example in part:
                digest.update(f"{example.question}\0{example.gold}\0".encode())
                if example.judge:
                    digest.update(f"{example.judge}\0".encode())
        return digest.hexdigest()


def load_problems(config: RunConfig, task: Task) -> Problems:
    """Read or make the problems and cut them.

    Raises:
        UserError: file missing or unreadable, a bad row (named), hub unreachable, too few rows.
    """
    data, holdout, seed = config.data, config.holdout, config.problem_seed
    held_out = holdout.report_rows + holdout.validation_rows
    if data.source == "generated":
        train, rest = _generated(config, held_out, task)
        problems = Problems(
            train=train,
            validation=rest[holdout.report_rows :],
            report=rest[: holdout.report_rows],
            source="problems generated on the spot",
        )
    else:
        bad = BadRows()
        if data.source == "hub":
            source, rows = _hub_rows(data, task)
        else:
            files = problem_files(data.path or "", "data.path", task)
            source, rows = files[0].name, read_rows(*files, bad=bad)
        faulty: list[str] = []
        examples = _sound_examples(task, rows, bad, faulty)
        if holdout.path is None:
            problems = cut(examples, holdout, seed, source)
        else:
            others = read_rows(*problem_files(holdout.path, "holdout.path", task), bad=bad)
            held = _sound_examples(task, others, bad, faulty)
            problems = beside(examples, held, holdout, seed, source)
        problems = replace(problems, faulty=tuple(faulty))
    problems = replace(problems, train=problems.train[: data.limit])
    if not problems.train:
        faults, taken = problems.faulty, len(problems.report) + len(problems.validation)
        lost = f" and {len(faults)} left out ({faults[0]})" if faults else ""
        raise UserError(
            f"{problems.source}: no training problem is left after {taken} were held out{lost}; "
            "give more rows or lower holdout.report_rows and holdout.validation_rows, which ask "
            f"for {held_out}"
        )
    return problems


def cut(examples: list[Example], holdout: HoldoutConfig, seed: int, source: str) -> Problems:
    """Cut one list into report, validation and training problems, by a hash of the question."""
    by_question = {example.question: example for example in reversed(examples)}
    unique = list(by_question.values())

    def place(example: Example) -> bytes:
        return hashlib.sha256(f"{seed}\0{example.question}".encode()).digest()

    ordered = sorted(unique, key=place)
    first, second = holdout.report_rows, holdout.report_rows + holdout.validation_rows
    return Problems(
        train=ordered[second:],
        validation=ordered[first:second],
        report=ordered[:first],
        source=source,
        repeated=len(examples) - len(unique),
    )


def beside(
    examples: list[Example], others: list[Example], holdout: HoldoutConfig, seed: int, source: str
) -> Problems:
    """Train on one list and hold out problems of another; no question may be in both."""
    training = {example.question: example for example in reversed(examples)}
    asked = cut(others, holdout, seed, source)
    wanted, got = holdout.report_rows + holdout.validation_rows, len(others) - asked.repeated
    if got < wanted:
        raise UserError(
            f"holdout.path: expected {wanted} different problems (holdout.report_rows and "
            f"holdout.validation_rows), got {got}; lower these or give more"
        )
    both = [example.question for example in others if example.question in training]
    if both:
        raise UserError(
            f"holdout.path: {len(both)} of its questions are trained on as well, such as "
            f"{both[0][:80]!r}; take them out of one of the two files"
        )
    return replace(
        asked,
        train=list(reversed(training.values())),
        repeated=len(examples) - len(training),
    )


def drop_long(problems: Problems, task: Task, tokenizer: Any, max_tokens: int) -> Problems:
    """Leave out problems whose prompt is over `max_tokens`; a cut prompt would ask another thing.

    Raises:
        UserError: no training or no held-out problem is left.
    """
    parts = {"train": problems.train, "validation": problems.validation, "report": problems.report}
    kept: dict[str, Any] = {}
    for name, part in parts.items():
        prompts = encode_prompts(tokenizer, [task.messages(example.question) for example in part])
        kept[name] = [e for e, ids in zip(part, prompts, strict=True) if len(ids) <= max_tokens]
    for name, words in (("train", "training"), ("report", "held-out")):
        if not kept[name]:
            raise UserError(
                f"no {words} problem is left: all prompts are over data.max_prompt_tokens = "
                f"{max_tokens} tokens; raise it"
            )
    dropped = sum(map(len, parts.values())) - sum(map(len, kept.values()))
    return replace(problems, **kept, dropped_long=dropped)


def check_golds(problems: Problems, rewards: Iterable[str], task: Task) -> None:
    """Refuse, before training, golds that the classic reward for numbers would stop at.

    Raises:
        UserError: `correctness_reward_func` is to pay, and a gold is no number.
    """
    number_reward = scores.correctness_reward_func.__name__
    if number_reward not in rewards:
        return
    for problem in (*problems.train, *problems.validation, *problems.report):
        if parse_number(problem.gold) is None:
            raise UserError(
                f"rewards.{number_reward} compares numbers, and the gold of {problem.id} is "
                f"{problem.gold[:80]!r}; name under `rewards` what pays for {task.name}: "
                f"{', '.join(extras(task).rewards) or 'a reward of yours, package.module:function'}"
            )


def _sound_examples(
    task: Task, rows: Iterable[Row], bad: BadRows, faulty: list[str]
) -> list[Example]:
    """The problems of rows.

    Args:
        task: whose problems.
        rows: the rows that could be read.
        bad: gets those that are no problem; a file that has them is refused, since it is not what
            it should be.
        faulty: gets what the task finds wrong with a row's gold; such rows are left out.
    """

    def sound(row: Row) -> Example | None:
        try:
            return sound_example(task, row.fields, row.id)
        except FaultyRow as error:
            faulty.append(str(error))
            return None

    tried = [bad.tried(row.id, sound, row) for row in rows]
    bad.refuse()
    return [example for example in tried if example is not None]


def _generated(config: RunConfig, held_out: int, task: Task) -> tuple[list[Example], list[Example]]:
    """Problems to train on and to hold out; the tiny base's warm start shares none of them."""
    data, seed = config.data, config.problem_seed
    check_level(task, data.level)
    if has_own_base(task):
        made = run_problems(task, data.level, seed, held_out + data.generated_rows)
        return made[held_out:], made[:held_out]
    from xmlgrpo_trainer.tiny.problems import problem_splits

    sums = problem_splits(tiny_settings(config.model.tiny), seed, held_out, data.generated_rows)
    train = _examples(task, _numbered(sums.train, "generated"))
    return train, _examples(task, _numbered(sums.holdout, "held-out"))


def _examples(task: Task, rows: Iterable[Row]) -> list[Example]:
    return [task.example(row.fields, row.id) for row in rows]


def _numbered(rows: Iterable[Mapping[str, Any]], source: str) -> Iterable[Row]:
    return (Row(f"{source}:{number}", row) for number, row in enumerate(rows, start=1))


def problem_files(name: str, key: str, task: Task) -> list[Path]:
    """The files of a key, which may name a folder with a training split.

    Raises:
        UserError: there is none.
    """
    return files_of(Path(name), "train", key, task.dataset_config)


def _hub_rows(data: DataConfig, task: Task) -> tuple[str, Iterable[Row]]:
    if not task.dataset:
        raise UserError(
            f"data.source is 'hub', and the task {task.name!r} has no data set on the Hub; give "
            "rows of yours: data.source=json data.path=FOLDER"
        )
    from datasets import load_dataset

    revision = data.revision or task.dataset_revision
    try:
        rows = load_dataset(task.dataset, task.dataset_config, split="train", revision=revision)
    except (OSError, ValueError, ConnectionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"cannot load {task.dataset!r} (revision {revision}) from the Hub: {reason}. Check the "
            "network, or give a local copy: data.source=json data.path=FOLDER"
        ) from None
    source = f"{task.dataset}@{revision}"
    return source, _numbered(rows, source)

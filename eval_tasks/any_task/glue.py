"""Where lm-eval meets xmlgrpo_rewards: rows in, metrics out.  What is right is decided there."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from math import comb
from pathlib import Path
from statistics import fmean
from typing import Any

from datasets import Dataset, DatasetDict, DatasetInfo, Features, Value, load_dataset
from lm_eval.api.filter import Filter

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.grading import example_of, grade_all
from xmlgrpo_rewards.numbers import parse_number
from xmlgrpo_rewards.prose import one_line
from xmlgrpo_rewards.rows import Row, files_in, files_of
from xmlgrpo_rewards.task import (
    FaultyRow,
    Grade,
    Task,
    extras,
    get_task,
    sound_example,
)
from xmlgrpo_rewards.task import (
    data_variable as default_variable,
)
from xmlgrpo_run.rows import read_rows
from xmlgrpo_run.screen.metric_names import PASS_AT

_task = cache(get_task)  # called for every reply; finding a task scans the installed packages
SPLITS = ("train", "test")
SHOWN_CHARS = 400  # of what is said about items that were left out
COLUMNS = ("id", "question", "gold", "solution", "judge", "task", "system_text", "user_text")


class _Counting:
    """How long replies are, for models that return plain text.

    lm-eval gives a task neither, so the reply is tokenized again with the tokenizer named in the
    model's arguments; the counts are then close, not exact.
    """

    tokenizer_name: str | None = None
    reply_limit: int = 0


def load(
    *,
    rewards_task: str = "gsm8k",
    data: str | None = None,
    data_variable: str | None = None,
    dataset: str | None = None,
    dataset_config: str | None = None,
    reply_limit: int = 0,
    pretrained: str | None = None,
    tokenizer: str | None = None,
    **_others: Any,
) -> DatasetDict:
    """The items, with the columns that the YAML names.

    An item whose gold fails the task's own check measures nothing: it is left out, counted and
    named on stderr and in the description of the split, where a result takes it from.

    Args:
        rewards_task: name of a task of xmlgrpo_rewards.
        data: a folder with a test split (and a training split for shots), or a file of test items.
        data_variable: the environment variable that names such a folder when `data` does not; the
            task's own (`GSM8K_DIR`) if None.
        dataset: id on the Hub, for when there is no local data; the task's own if None.
        dataset_config: configuration of `dataset`.
        reply_limit: the task's max_gen_toks.
        pretrained: the model, as it is named to lm-eval.
        tokenizer: its tokenizer, when that is elsewhere.
        _others: the rest of the model's arguments, which lm-eval passes too.

    Raises:
        UserError: no such data, or a row that is not a problem with one gold answer.
    """
    _Counting.tokenizer_name, _Counting.reply_limit = tokenizer or pretrained, reply_limit
    task = get_task(rewards_task)
    data_variable = data_variable or default_variable(rewards_task)
    place = data or os.environ.get(data_variable)
    if place:
        named = "--data" if data else f"{data_variable}={place}"
        rows = _local_rows(Path(place), named, task.dataset_config)
    else:
        rows = _hub_rows(task, dataset, dataset_config, data_variable)
    items = DatasetDict({split: _items(task, rows.get(split, ()), split) for split in SPLITS})
    if not len(items["test"]):
        left_out = items["test"].info.description
        said = f": {left_out}" if left_out else ""
        raise UserError(f"there is no test item in {place or dataset or task.dataset}{said}")
    return items


def _local_rows(place: Path, named: str, config: str | None) -> Mapping[str, Iterable[Row]]:
    test = files_of(place, "test", named, config)
    train = [] if place.is_file() else files_in(test[0].parent, "train", named)
    return {"test": read_rows(*test), "train": read_rows(*train)}


def _hub_rows(
    task: Task, dataset: str | None, dataset_config: str | None, data_variable: str
) -> Mapping[str, Iterable[Row]]:
    name = dataset or task.dataset
    if not name:
        raise UserError(
            f"the task {task.name!r} has no data set on the Hub; name local files with --data DIR "
            f"(test.jsonl in it), or set {data_variable}=DIR in the environment"
        )
    config = dataset_config if dataset else task.dataset_config
    revision = None if dataset else task.dataset_revision
    try:
        splits = dict(load_dataset(name, config, revision=revision))
    except (OSError, ValueError) as error:
        # lm-eval's own command has no --data
        raise UserError(
            f"cannot load the data set {name!r} from the Hub ({error}); name local files with "
            f"--data DIR (test.jsonl in it), or set {data_variable}=DIR in the environment"
        ) from error
    return {
        split: (Row(f"{split}-{n}", row) for n, row in enumerate(rows))
        for split, rows in splits.items()
    }


def _items(task: Task, rows: Iterable[Row], split: str) -> Dataset:
    items, faults = [], []
    for n, row in enumerate(rows):
        try:
            items.append(_item(task, row, f"{split}-{n}"))
        except FaultyRow as error:
            faults.append(str(error))
    columns = {column: [item[column] for item in items] for column in COLUMNS}
    # the types are given, since an empty split (no train.jsonl) has none to infer
    features = Features({column: Value("string") for column in COLUMNS})
    left_out = f"{len(faults)} left out for their gold, the first: {faults[0]}" if faults else ""
    if left_out:
        print(f"{split} items: {one_line(left_out, SHOWN_CHARS)}", file=sys.stderr)
    return Dataset.from_dict(columns, features, info=DatasetInfo(left_out, features=features))


def _item(task: Task, row: Row, item_id: str) -> dict[str, str]:
    example = sound_example(task, row.fields, row.id)  # errors name its file and line
    texts = {message["role"]: message["content"] for message in task.messages(example.question)}
    return {
        "id": str(row.fields.get("id", item_id)),
        "question": example.question,
        "gold": example.gold,
        "solution": example.solution,
        "judge": example.judge,
        "task": task.name,
        "system_text": texts.get("system", ""),
        "user_text": texts["user"],
    }


def worked_reply(doc: Mapping[str, str]) -> str:
    """The reply a shot shows: the gold solution in the form that is asked for."""
    return reply.render(doc["solution"], doc["gold"])


def process_results(doc: Mapping[str, str], results: Sequence[str]) -> dict[str, float]:
    """The metrics of one item with one reply."""
    text = results[0]
    [grade] = grade_all(_task(doc["task"]), [text], [example_of(doc)])
    return _metrics(grade, text)


def process_results_k(doc: Mapping[str, str], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """The metrics of one item with several replies.

    `strict_accuracy` is the share of right replies, which is pass@1; `pass_at_2`, `pass_at_4`, ...
    estimate pass@2, ... from all k; `pass_at_k` is whether any was right; `maj_at_k` whether the
    most frequent answer was, where a reply outside the strict form has no vote, `18` and `18.0` are
    one answer where answers are numbers and, of equally frequent ones, the first counts.
    """
    task, texts = _task(doc["task"]), results[0]
    grades = grade_all(task, texts, [example_of(doc)] * len(texts))
    rows = [_metrics(grade, text) for grade, text in zip(grades, texts, strict=True)]
    means = {name: fmean(row[name] for row in rows) for name in rows[0]}
    numbers = not extras(task).rewards
    cast = [_vote(grade, numbers=numbers) for grade in grades]
    votes = Counter(
        vote
        for vote, grade in zip(cast, grades, strict=True)
        if grade.strict_format and grade.answered
    )
    winner = votes.most_common(1)[0][0] if votes else None
    right, count = sum(grade.strict_correct for grade in grades), len(texts)
    return means | {
        **{f"pass_at_{few}": pass_at(few, count, right) for few in PASS_AT if few < count},
        "pass_at_k": pass_at(count, count, right),
        "maj_at_k": float(
            any(g.strict_correct and vote == winner for g, vote in zip(grades, cast, strict=True))
        ),
    }


def pass_at(few: int, n: int, right: int) -> float:
    """The chance that one of `few` replies is right, where `right` of `n` were.

    Unbiased, which 1 - (1 - right / n)^few is not.  (Chen et al. 2021, "Evaluating Large Language
    Models Trained on Code", arXiv 2107.03374, equation 1.)
    """
    return 1 - comb(n - right, few) / comb(n, few)


def _vote(grade: Grade, *, numbers: bool) -> Decimal | str | None:
    """What a reply votes for: a number however it is written, another answer as it was read."""
    number = parse_number(grade.answer or "") if numbers else None
    return grade.answer if number is None else number


def _metrics(grade: Grade, text: str) -> dict[str, float]:
    share = {} if grade.share is None else {"share_right": grade.share}
    return {
        "strict_accuracy": float(grade.strict_correct),
        "lenient_accuracy": float(grade.lenient_correct),
        "strict_format": float(grade.strict_format),
        "soft_format": float(grade.soft_format),
        **share,
        "no_answer": float(not grade.answered),
    } | _length(text)


def _length(text: str) -> dict[str, float]:
    """Tokens, and whether the reply was cut off; nothing where neither can be known."""
    count, truncated = getattr(text, "tokens", None), getattr(text, "truncated", False)
    if count is None:  # our models count; stock models return plain text
        tokenizer = _tokenizer(_Counting.tokenizer_name) if _Counting.tokenizer_name else None
        if tokenizer is None:
            return {}
        count = len(tokenizer.encode(text, add_special_tokens=False))
        truncated = 0 < _Counting.reply_limit <= count
    return {"reply_tokens": float(count), "truncated": float(truncated)}


@cache
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415  # only where a stock model needs it

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError):
        return None  # not a tokenizer's name: a server's model, for one


class EveryReply(Filter):  # type: ignore[misc]  # lm-eval is untyped
    """Hands all replies of an item on; lm-eval's `take_first_k` wants their number beforehand."""

    def apply(self, resps: Iterable[Any], docs: Sequence[Any]) -> Iterable[Any]:
        """Return the replies as they are."""
        return resps

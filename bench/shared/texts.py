"""Prompts of GSM8K's problems with a reply, as token ids; and Markdown tables of what came out."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.task import get_task
from xmlgrpo_run.prompt import tokenizer_prompt
from xmlgrpo_run.rows import read_rows

Text = tuple[list[int], int]  # ids of prompt and reply, and how many the prompt has


def with_reply(tokenizer: Any, question: str, reply: str) -> Text:
    """The problem in our prompt, and the reply behind it."""
    prompt = tokenizer_prompt(tokenizer, get_task("gsm8k").messages(question)).text
    asked, told = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, reply)
    )
    return asked + told, len(asked)


def kept_replies(tokenizer: Any, path: Path, count: int) -> list[Text]:
    """The first of a run's kept completions."""
    rows = first_rows(path, count)
    return [with_reply(tokenizer, row["question"], row["completion"]) for row in rows]


def first_rows(path: Path, count: int) -> list[Mapping[str, Any]]:
    """Of a JSONL file."""
    return [row.fields for row in islice(read_rows(path), count)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])

"""Where the questions come from: the command line, a file, the environment, standard input."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xmlgrpo_rewards.console_script import print_error
from xmlgrpo_rewards.errors import UserError

PROMPT = "question> "
ASK = 'make ask Q="..." or .venv/bin/xmlgrpo-ask --question "..."'
MAX_BYTES = 16 << 20  # of all questions; a model would answer them for months


def given_questions(arguments: argparse.Namespace) -> list[str] | None:
    """The questions that are given; None when they are to be typed, one after the other.

    Raises:
        UserError: there is none, one is empty, or one is not text.
    """
    if arguments.question:
        return [_checked(question, "--question") for question in arguments.question]
    if arguments.questions is not None:
        return _lines(arguments.questions)
    if arguments.question_env is not None:
        where = f"the environment variable {arguments.question_env}"
        return [_checked(os.environ.get(arguments.question_env, ""), where)]
    if sys.stdin.isatty():
        return None
    return [_checked(_read(sys.stdin.buffer, "standard input"), "standard input")]


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = _read(file, repr(str(path)))
    except OSError as error:
        raise UserError(f"cannot read the questions in {str(path)!r}: {error.strerror}") from None
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    if not questions:
        raise UserError(f"{str(path)!r} holds no question; expected one a line")
    return questions


def _read(file: BinaryIO, where: str) -> str:
    raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise UserError(f"{where}: expected at most {MAX_BYTES:,} bytes of questions, got more")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise UserError(f"{where}: the questions are not UTF-8 text") from None


def _checked(question: str, where: str) -> str:
    try:
        question.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: the question is not UTF-8 text") from None
    if not question.strip():
        raise UserError(f"{where}: the question is empty; {ASK}")
    return question.strip()


def typed_questions() -> Iterator[str]:
    """Questions typed at the terminal, until an empty line or Ctrl-D."""
    import readline  # noqa: F401 - gives `input` the arrow keys and what was typed before

    print("One question a line; an empty line or Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            if sys.stdout.isatty():
                question = input(PROMPT)
            else:  # what is printed there is for a file
                print(PROMPT, end="", file=sys.stderr, flush=True)
                question = input()
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            print(file=sys.stderr)  # the line of the prompt ends here
            raise
        if not question.strip():
            return
        try:
            yield _checked(question, "the terminal")
        except UserError as error:
            print_error(f"error: {error}")

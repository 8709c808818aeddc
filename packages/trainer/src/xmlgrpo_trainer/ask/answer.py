"""A model that is loaded once and asked any number of questions, and how its replies are shown."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console

from xmlgrpo_rewards.errors import EXIT_USER_ERROR, Terminated, UserError, kept_on_interrupt, tell
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.reply import parse
from xmlgrpo_rewards.task import Task, get_task
from xmlgrpo_run.screen.console import quiet_libraries
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.ask.speaker import Said, Settings, Speaker, load_speaker
from xmlgrpo_trainer.ask.view import ReplyView, remarks
from xmlgrpo_trainer.config.run_config import LARGEST_SEED

Form = Literal["text", "raw", "json"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A loaded model, how it draws its replies and how they are shown.

    Attributes:
        form: "text" for people, "raw" for the reply as it is (on a terminal without control
            characters), "json" for machines.
    """

    speak: Speaker
    task: Task
    settings: Settings
    form: Form


def load(
    source: Source, *, max_new_tokens: int | None, temperature: float, seed: int, form: Form
) -> Asked:
    """Load the model.

    Args:
        source: where it is.
        max_new_tokens: of a reply; None for as long as in training.
        temperature: 0 always says the likeliest.
        seed: of each reply, for a temperature above 0.
        form: of what is printed.

    Raises:
        UserError: a setting is out of its range, or the model cannot be loaded.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")
    task = get_task(source.task)
    quiet_libraries()
    with Stage(Console(stderr=True), "reading the model"):
        from xmlgrpo_rollout.sampling import Sampling  # imports torch

        tokens = source.max_new_tokens if max_new_tokens is None else max_new_tokens
        Sampling(max_new_tokens=tokens, temperature=temperature)  # checks both
        speak = load_speaker(source)
    return Asked(speak, task, Settings(tokens, temperature, seed), form)


def answer_one(question: str, asked: Asked) -> int:
    """Ask one question; 0 also for a reply that is not in the format."""
    _answer(question, asked, indent=2)
    return 0


def answer_all(questions: Sequence[str], asked: Asked) -> int:
    """Ask one after the other; one that cannot be asked is told, and the next one is asked.

    Returns:
        The exit code: that of a user's error when one could not be asked.
    """
    code = 0
    for number, question in enumerate(questions):
        if asked.form == "text":
            between = "\n" if number else ""
            print(f"{between}[{number + 1}/{len(questions)}] {printable(question)}\n")
        done = f"{number} of {len(questions)} questions are answered above"
        try:
            with kept_on_interrupt(f"{done}; nothing else is kept, run the same command again"):
                _answer(question, asked)
        except UserError as error:
            tell(f"error: question {number + 1}: {error}")
            code = EXIT_USER_ERROR
    return code


def answer_typed(questions: Iterator[str], asked: Asked) -> int:
    """Ask what is typed; Ctrl-C ends the reply that is being written, and the next is asked for."""
    for question in questions:
        try:
            _answer(question, asked)
        except UserError as error:
            tell(f"error: {error}")
        except Terminated:
            raise
        except KeyboardInterrupt:
            tell("stopped; the next question, or Ctrl-D to end")
        if asked.form == "text":
            print()
    return 0


def _answer(question: str, asked: Asked, indent: int | None = None) -> None:
    """Print a reply while it is written; what was written stays when it is interrupted."""
    view = ReplyView(Console())

    def on_text(text: str) -> None:
        if asked.form == "raw":
            sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        elif asked.form == "text":
            view.feed(text)
        sys.stdout.flush()

    def end() -> None:
        if asked.form == "raw":
            print(flush=True)
        view.end()

    started = time.monotonic()
    try:
        said = asked.speak(asked.task.messages(question), asked.settings, on_text)
    except KeyboardInterrupt:
        end()
        raise
    end()
    if asked.form == "json":
        plain = _as_json(question, said, time.monotonic() - started)
        print(json.dumps(plain, ensure_ascii=False, indent=indent), flush=True)
    elif asked.form == "text":
        notes = Console(stderr=True)
        for remark in remarks(said, parse(said.text)):
            say(notes, remark, head="[yellow]note[/] ")


def _as_json(question: str, said: Said, seconds: float) -> dict[str, Any]:
    reply = parse(said.text)
    return {
        "question": question,
        "reply": said.text,
        "reasoning": reply.reasoning,
        "answer": reply.answer,
        "strict_format": reply.strict,
        "soft_format": reply.soft,
        "finish": said.finish,
        "tokens": said.tokens,
        "prompt_tokens": said.prompt_tokens,
        "seconds": round(seconds, 3),
    }

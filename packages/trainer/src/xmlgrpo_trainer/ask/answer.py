"""A model that is loaded once and asked any number of questions, and how its replies are shown."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from xmlgrpo_rewards.console_script import (
    EXIT_USER_ERROR,
    Terminated,
    for_stdout,
    kept_on_interrupt,
    print_error,
)
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.reply import parse
from xmlgrpo_rewards.task import Task, get_task
from xmlgrpo_run.screen.console import guarded, quiet_libraries
from xmlgrpo_run.screen.progress import Stage
from xmlgrpo_run.screen.say import say
from xmlgrpo_trainer.ask.chat import Chat, ReplySettings
from xmlgrpo_trainer.ask.source import Source
from xmlgrpo_trainer.ask.view import ReplyView, remarks
from xmlgrpo_trainer.plan.gpus import has_driver

Form = Literal["text", "raw", "json"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A loaded model, how its replies are drawn and how they are shown."""

    chat: Chat
    task: Task
    settings: ReplySettings
    form: Form  # for people; the reply as it is; for machines


def load(
    source: Source, *, max_new_tokens: int | None, temperature: float, seed: int, form: Form
) -> Asked:
    """Load the model; `max_new_tokens` is None for replies as long as the source's.

    Raises:
        UserError: a setting is out of its range, or the model cannot be loaded.
    """
    task = get_task(source.task)
    quiet_libraries()
    with Stage(guarded(Console(stderr=True)), "reading the model"):
        from xmlgrpo_rollout.engine import Sampling  # imports torch

        tokens = source.max_new_tokens if max_new_tokens is None else max_new_tokens
        Sampling(max_new_tokens=tokens, temperature=temperature)  # checks both
        chat = load_chat(source)
    return Asked(chat, task, ReplySettings(tokens, temperature, seed), form)


def load_chat(source: Source) -> Chat:
    """Load the model in the way that its kind and this machine ask for.

    Raises:
        UserError: the model or a package that it needs is not there.
    """
    if source.kind == "gguf":
        from xmlgrpo_trainer.ask.gguf import GgufChat

        return GgufChat(source.name)
    if not has_driver():
        from xmlgrpo_trainer.ask.folder import folder_chat

        chat = folder_chat(source)
        if chat is not None:
            return chat
    from xmlgrpo_trainer.ask.huggingface import transformers_chat

    return transformers_chat(source)


def answer_given(questions: Sequence[str], asked: Asked) -> int:
    """Ask one after the other; after one that cannot be asked, the next one is asked.

    Returns:
        0, also for a reply that is not in the format; a user error's code when a question of
        several could not be asked.
    """
    if len(questions) == 1:
        _answer(questions[0], asked, indent=2)
        return 0
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
            print_error(f"error: question {number + 1}: {error}")
            code = EXIT_USER_ERROR
    return code


def answer_typed(questions: Iterator[str], asked: Asked) -> int:
    """Ask what is typed; Ctrl-C ends the reply that is being written, and the next is asked for."""
    for question in questions:
        try:
            _answer(question, asked)
        except UserError as error:
            print_error(f"error: {error}")
        except Terminated:
            raise
        except KeyboardInterrupt:
            print_error("stopped; the next question, or Ctrl-D to end")
        if asked.form == "text":
            print()
    return 0


def _answer(question: str, asked: Asked, indent: int | None = None) -> None:
    """Print a reply while it is written; what was written stays when it is interrupted."""
    view, pieces = ReplyView(guarded(Console())), 0

    def on_text(text: str) -> None:
        nonlocal pieces
        pieces += 1
        if asked.form == "raw":
            sys.stdout.write(for_stdout(text))
        elif asked.form == "text":
            view.feed(text)
        sys.stdout.flush()

    started = time.monotonic()
    try:
        completion = asked.chat(asked.task.messages(question), asked.settings, on_text)
    finally:
        if asked.form == "raw" and pieces:
            print(flush=True)
        view.end()
    reply = parse(completion.text)
    if asked.form == "json":
        fields = {
            "question": question,
            "reply": completion.text,
            "reasoning": reply.reasoning,
            "answer": reply.answer,
            "strict_format": reply.strict,
            "soft_format": reply.soft,
            "finish": completion.finish,
            "tokens": completion.tokens,
            "prompt_tokens": completion.prompt_tokens,
            "seconds": round(time.monotonic() - started, 3),
        }
        print(for_stdout(json.dumps(fields, ensure_ascii=False, indent=indent)), flush=True)
    elif asked.form == "text":
        notes = guarded(Console(stderr=True))
        for remark in remarks(completion, reply):
            say(notes, remark, head="[yellow]note[/] ")

"""A chat as the text that a model reads: one definition for training, evaluation, export and `ask`.

A chat template is a program of the model's maker.  It may refuse a system message (Gemma 2), leave
it out without a word (Phi-3), or take no notice of `add_generation_prompt`.  So what it wrote is
looked at: every instruction and every question has to stand in it.
"""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.prose import one_line

Messages = list[dict[str, str]]
# renders a chat, called with `add_generation_prompt`; may raise what it likes
Render = Callable[..., str]

MARK = "\u0001mark\u0001"  # stands for a text of any content
REASON_COLUMNS = 300
# of one chat; a template may loop or grow for ever, and takes a few milliseconds and kilobytes
RENDER_CPU_S, RENDER_BYTES, RENDER_CHARACTERS = 1.0, 128 << 20, 1_000_000


class _TooMuchError(Exception):
    """A template took more than a chat can take."""


class Prompt(NamedTuple):
    """A chat in the form that a model's template can write, and its text."""

    chat: Messages  # as it was asked, or with the instructions in the user's turn
    text: str  # ready for the model's turn


def write_prompt(render: Render, chat: Messages) -> Prompt:
    """Write a chat with a model's template, ready for the model's turn.

    Where the template has no system role, the instructions begin the user's turn.  Where it takes
    no notice of `add_generation_prompt`, the model's turn is opened as the template opens one that
    has a reply in it.

    Raises:
        UserError: the text does not hold what the model is to be told, whatever is tried.
    """
    why = ""
    for told in (chat, in_user_turn(chat)):
        try:
            with _limited():
                text = render(told, add_generation_prompt=True)
            _check_length(told, text)
        except _TooMuchError as error:
            why = str(error)
            break
        except Exception as error:  # noqa: BLE001 - a template may raise whatever it likes
            why = why or one_line(str(error), REASON_COLUMNS) or type(error).__name__
            continue
        lost = _lost(told, text)
        if lost is None:
            return Prompt(told, _opened(render, told, text))
        why = why or f"it leaves the {lost} message out"
    raise UserError(
        f"the model's chat template cannot write the question with its instructions ({why}), so "
        "the model would not be told what is asked; use a model with another template"
    )


def rendered(render: Render, chat: Messages, **how: Any) -> str:
    """A chat as a template writes it, in the time and memory that one chat may take.

    Raises:
        UserError: it takes more, or writes without end; what the template raises is raised.
    """
    try:
        with _limited():
            text = render(chat, **how)
        _check_length(chat, text)
    except _TooMuchError as error:
        raise UserError(f"the model's chat template is damaged or hostile: {error}") from None
    return text


def tokenizer_prompt(tokenizer: Any, chat: Messages, **options: Any) -> Prompt:
    """Write a chat with the template of a tokenizer of transformers.

    Args:
        options: what the template itself may ask for, such as `enable_thinking`.

    Raises:
        UserError: it has none, or one that cannot write the chat.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the model's tokenizer has no chat template; use an instruction-tuned model (for Gemma "
            "3 a name that ends in -it), or evaluate it as one that continues plain text: "
            ".venv/bin/xmlgrpo-eval run --no-chat-template"
        )
    return write_prompt(partial(tokenizer.apply_chat_template, tokenize=False, **options), chat)


def in_user_turn(chat: Messages) -> Messages:
    """The chat without a system role: its instructions begin the first other message."""
    system = [message["content"] for message in chat if message["role"] == "system"]
    rest = [message for message in chat if message["role"] != "system"]
    if not system or not rest:
        return chat
    first = {**rest[0], "content": "\n\n".join([*system, rest[0]["content"]])}
    return [first, *rest[1:]]


def text_around(write: Callable[[Messages], Prompt], chat: Messages) -> str:
    """What the template itself writes for the turns of a chat: the prompt without their texts."""
    return write([{**message, "content": MARK} for message in chat]).text.replace(MARK, "")


def check_bos(ids: Sequence[int], around: Sequence[int], bos: int, name: str, prompt: str) -> None:
    """See that a prompt holds no BOS but those that the template writes.

    Most templates write one at the start, some none; for some models it opens every turn.

    Args:
        ids: the prompt's tokens.
        around: those of its `text_around`.
        name: the BOS as it is called in messages.
        prompt: the prompt in words.

    Raises:
        UserError: there is one more.
    """
    count, expected = ids.count(bos), around.count(bos)
    if list(ids[:2]) == [bos, bos]:
        expected = 1
    elif count == expected:
        return
    words = {0: "none", 1: "one, at its start"}.get(expected, f"the template's {expected}")
    raise UserError(
        f"{prompt} holds {count} {name} tokens, expected {words}: the chat template repeats it, or "
        f"the question contains the text {name!r}"
    )


def _check_length(chat: Messages, text: str) -> None:
    if len(text) > RENDER_CHARACTERS + sum(len(message["content"]) for message in chat):
        raise _TooMuchError(f"it writes one chat in {len(text):,} characters")


@contextmanager
def _limited() -> Iterator[None]:
    """Stop what the block takes beyond its bounds; only in the main thread, which has signals.

    Raises:
        _TooMuchError: it took longer than `RENDER_CPU_S`, or more than `RENDER_BYTES`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    began = time.thread_time()

    def stop(*_: object) -> None:
        left_s = RENDER_CPU_S - (time.thread_time() - began)
        if left_s > 0:  # other threads took the time
            signal.setitimer(signal.ITIMER_VIRTUAL, max(left_s, 0.01))
            return
        raise _TooMuchError(f"it writes one chat for over {RENDER_CPU_S:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, RENDER_CPU_S)
    try:
        with _no_more_memory():
            yield
    except MemoryError:
        raise _TooMuchError(f"it takes over {RENDER_BYTES >> 20} MiB for one chat") from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _no_more_memory() -> Iterator[None]:
    """Let this process have `RENDER_BYTES` more than now; only Linux keeps such a limit."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + RENDER_BYTES
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    if before == resource.RLIM_INFINITY or most < before:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _lost(chat: Messages, text: str) -> str | None:
    """The role of a message whose text is not in the prompt; the model's own may be shortened."""
    told = (message for message in chat if message["role"] != "assistant")
    return next((m["role"] for m in told if m["content"].strip() not in text), None)


def _opened(render: Render, chat: Messages, text: str) -> str:
    """The prompt's text, with the model's turn opened where the template did not do so."""
    reply = {"role": "assistant", "content": MARK}
    try:
        with _limited():
            if render(chat, add_generation_prompt=False) != text:
                return text
            # it takes no notice: Llama 2's opens the turn of itself, by [/INST], others never do
            replied = render([*chat, reply], add_generation_prompt=False)
    except Exception:  # noqa: BLE001 - it knows no such chat, and so no turn to open
        return text
    before = replied.rpartition(MARK)[0]
    return text if before.strip() == text.strip() or _lost(chat, before) else before

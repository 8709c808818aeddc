"""A GGUF's chat template, rendered by a child process.

A template is a program of the file's maker, and it sees the chat and the BOS: it may render one
chat and loop for ever over the next.  So no chat is rendered in this process.  One child serves a
whole run; chats go in and texts come out as lines of JSON, and every chat has its own limit.

    python -m xmlgrpo_gguf.template CPU_SECONDS   # template on the first line, then chats
"""

import json
import os
import resource
import select
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from math import ceil
from typing import Any, Self

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.sandbox import start_child
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.disk import GIB
from xmlgrpo_run.prompt import Render

CHAT_CPU_S = 10
CHAT_TIMEOUT_S = 60.0  # of wall time, should the machine be busy with other things
START_TIMEOUT_S = 300.0  # imports from a cold disk
MEMORY_BYTES = 4 * GIB  # libraries, and what a template writes
LONGEST_TEXT = 1 << 24  # characters; a context of a million tokens is about a quarter

Chat = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template and the tokens that it is rendered with."""

    chat_template: str
    bos_token: str = ""
    eos_token: str = ""

    @classmethod
    def of(cls, model: GgufModel) -> Self:
        """A file's own; a UserError where it has none."""
        if not model.chat_template:
            raise UserError(
                f"{model.path} has no chat template; export it from a folder whose tokenizer has "
                "one, or leave the chat template off where that is an option (--no-chat-template)"
            )
        return cls(model.chat_template, model.bos_text, model.token_text(model.eos))


def import_renderer() -> None:
    """Import what `render` needs, which takes longer than a chat may: to be called before one."""
    import_module("transformers.utils.chat_template_utils")


def renderer(template: Template) -> Render:
    """`render` with its libraries imported: a caller may limit the time and memory of a chat."""
    import_renderer()
    return partial(render, template)


def render(
    template: Template,
    chat: Chat,
    *,
    add_generation_prompt: bool,
    continue_final_message: bool = False,
) -> str:
    """The text of a chat, by transformers' renderer; a foreign template only in a limited child."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        conversations=[chat],
        add_generation_prompt=add_generation_prompt,
        continue_final_message=continue_final_message,
        **asdict(template),
    )
    text = str(rendered[0])
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it writes {len(text)} characters")
    return text


class ChatTemplate:
    """Renders chats with a file's template, each in `cpu_s`; the child starts with the first."""

    def __init__(self, model: GgufModel, cpu_s: int = CHAT_CPU_S) -> None:
        self._model, self._cpu_s = model, cpu_s
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, chat: Chat, *, add_generation_prompt: bool) -> str:
        """The text of a chat.

        Raises:
            UserError: the file has no template, or one that cannot be rendered within the limits.
        """
        if self._child is None:
            self._child = self._start(Template.of(self._model))
        question = {
            "chat": chat,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt and chat[-1]["role"] == "assistant",
        }
        answer = self._ask(self._child, question, CHAT_TIMEOUT_S)
        if "error" in answer:
            raise UserError(
                f"the chat template of {self._model.path} cannot be rendered ({answer['error']})"
            )
        return str(answer["text"])

    def _start(self, template: Template) -> "subprocess.Popen[bytes]":
        child = start_child(
            ["-m", "xmlgrpo_gguf.template", str(self._cpu_s)],
            cpu_s=None,  # every chat has its own
            memory_bytes=MEMORY_BYTES,
            environment={"OPENBLAS_NUM_THREADS": "1"},  # numpy's threads reserve memory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _stop, child)
        self._ask(child, asdict(template), START_TIMEOUT_S)
        return child

    def _ask(
        self, child: "subprocess.Popen[bytes]", question: dict[str, Any], timeout_s: float
    ) -> dict[str, Any]:
        assert child.stdin is not None  # noqa: S101  # a pipe, which the type does not say
        assert child.stdout is not None  # noqa: S101  # likewise
        try:
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
            line = _line(child.stdout.fileno(), timeout_s)
        except BrokenPipeError:
            line = b""
        if not line:
            _stop(child)
            raise UserError(
                f"the chat template of {self._model.path} does not finish a chat (more "
                f"than {self._cpu_s} s, or too much memory): it is damaged or hostile"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def _line(pipe: int, timeout_s: float) -> bytes:
    """What arrives up to the end of a line; empty when that is not in time, or never."""
    ends = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, ends - time.monotonic()))
        piece = os.read(pipe, 1 << 16) if ready else b""
        if not piece:
            return b""
        line += piece
    return line


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with suppress(BrokenPipeError):  # a chat that the child did not live to read
            if pipe:
                pipe.close()


def _serve(cpu_s: int) -> None:
    template = Template(**json.loads(sys.stdin.readline()))
    import_renderer()
    print("{}", flush=True)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    for line in sys.stdin:
        resource.setrlimit(resource.RLIMIT_CPU, (ceil(time.process_time() + cpu_s), most))
        try:
            answer = {"text": render(template, **json.loads(line))}
        except Exception as error:  # noqa: BLE001  # a template may raise whatever it likes
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

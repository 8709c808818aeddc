"""A GGUF's chat template, rendered by a child process.

A template is a program of the file's maker, and it sees the chat and the BOS: it may render one
chat and loop for ever over the next.  So no chat is rendered in this process.  One child serves a
whole run; chats go in and texts come out as lines of JSON, and every chat has its own limit.

    python -m xmlgrpo_gguf.template   # template on the first line, then chats
"""

import json
import os
import resource
import select
import subprocess
import sys
import time
import weakref
from math import ceil
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.probe import foreign_environment, limit_memory
from xmlgrpo_rewards.errors import UserError

CHAT_CPU_S = 10
_CHAT_TIMEOUT_S = 60.0  # of wall time, should the machine be busy with other things
_START_TIMEOUT_S = 300.0  # imports from a cold disk
_MEMORY_BYTES = 2 << 30
_LONGEST_TEXT = 1 << 24  # characters; a context of a million tokens is about a quarter

Chat = list[dict[str, Any]]


class ChatTemplate:
    """Renders chats with a file's template; the child starts with the first one.

    Args:
        model: whose template, BOS and EOS.
        cpu_s: CPU time that one chat may take.
    """

    def __init__(self, model: GgufModel, cpu_s: int = CHAT_CPU_S) -> None:
        self._model = model
        self._cpu_s = cpu_s
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, chat: Chat, *, add_generation_prompt: bool) -> str:
        """The text of a chat.

        Raises:
            UserError: the file has no template, or one that cannot be rendered within the limits.
        """
        if self._child is None:
            self._child = self._start()
        question = {"chat": chat, "add_generation_prompt": add_generation_prompt}
        answer = self._ask(self._child, question, _CHAT_TIMEOUT_S)
        if "error" in answer:
            raise UserError(
                f"the chat template of {self._model.path} cannot be rendered ({answer['error']})"
            )
        return str(answer["text"])

    def _start(self) -> subprocess.Popen[bytes]:
        first = template_of(self._model)
        child = subprocess.Popen(
            [sys.executable, "-m", "xmlgrpo_gguf.template", str(self._cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=foreign_environment(),
        )
        weakref.finalize(self, _stop, child)
        self._ask(child, first, _START_TIMEOUT_S)
        return child

    def _ask(
        self, child: subprocess.Popen[bytes], question: dict[str, Any], timeout_s: float
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
                f"the chat template of {self._model.path} takes without end over a chat (more "
                f"than {self._cpu_s} s, or too much memory): it is damaged or hostile"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def template_of(model: GgufModel) -> dict[str, str]:
    """A file's template with the tokens that it is rendered with.

    Raises:
        UserError: the file has no template.
    """
    if not model.chat_template:
        raise UserError(
            f"{model.path} has no chat template; export it from a folder whose tokenizer has one, "
            "or leave the chat template off (--no-chat-template)"
        )
    return {
        "chat_template": model.chat_template,
        "bos_token": model.token_text(model.bos) if model.bos >= 0 else "",
        "eos_token": model.token_text(model.eos) if model.eos >= 0 else "",
    }


def render_here(template: dict[str, str], chat: Chat, *, add_generation_prompt: bool) -> str:
    """Render in this process, which must be a child with limits, by transformers' renderer."""
    rendered, _ = render_jinja_template(
        conversations=[chat],
        add_generation_prompt=add_generation_prompt,
        continue_final_message=not add_generation_prompt,
        **template,
    )
    return str(rendered[0])


def _line(pipe: int, timeout_s: float) -> bytes:
    """What comes up to the end of a line; empty when it does not come in time, or never will."""
    ends = time.monotonic() + timeout_s
    pieces: list[bytes] = []
    while not (pieces and pieces[-1].endswith(b"\n")):
        ready, _, _ = select.select([pipe], [], [], max(0.0, ends - time.monotonic()))
        piece = os.read(pipe, 1 << 16) if ready else b""
        if not piece:
            return b""
        pieces.append(piece)
    return b"".join(pieces)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            try:
                pipe.close()
            except BrokenPipeError:  # a chat that the child did not live to read
                continue


def _serve(cpu_s: int) -> None:
    template = json.loads(sys.stdin.readline())
    limit_memory(_MEMORY_BYTES)
    print("{}", flush=True)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    for line in sys.stdin:
        allowed_s = ceil(time.process_time() + cpu_s)
        resource.setrlimit(resource.RLIMIT_CPU, (allowed_s, most))
        print(json.dumps(_answer(template, json.loads(line))), flush=True)


def _answer(template: dict[str, str], question: dict[str, Any]) -> dict[str, str]:
    try:
        text = render_here(template, **question)
        if len(text) > _LONGEST_TEXT:
            return {"error": f"it writes {len(text)} characters"}
    except Exception as error:  # noqa: BLE001  # a template may raise whatever it likes
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    return {"text": text}


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

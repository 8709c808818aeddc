"""A GGUF is tried in a child process before this one loads it.

A file from elsewhere may crash llama.cpp, eat the memory, or carry a chat template that never ends:
then the child dies of it, and the user is told.  The template is rendered in the child only, since
it may do otherwise when it is rendered again.  What a file merely lacks is said where it is asked
for, in `xmlgrpo_trainer.ask.gguf`.

    python -m xmlgrpo_gguf.trial FILE < MESSAGES.json
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError

RENDER_CPU_S = 60
READ_CPU_S = 60
READ_CPU_S_PER_GIB = 10  # mapping the weights and reading a few tokens with one core
TIMEOUT_S = 600.0  # of wall time: a large file on a slow disk takes minutes to be read
SILENT_S = 3.0
BASE_BYTES = 6 << 30  # Python and llama.cpp's buffers
READ_TOKENS = 8
LONGEST_TEXT = 1 << 24  # characters; a context of a million tokens is about a quarter
DROPPED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
# a GPU build reserves address space for every device that it sees, more than any sound limit
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}


@dataclass(frozen=True, slots=True)
class Tried:
    """What the child says of a file that it survived.

    Attributes:
        prompt: the chat as the file's template writes it; None where it does not work.
        problem: why there is no prompt.
    """

    prompt: str | None
    problem: str


def try_file(path: str, messages: list[dict[str, str]], cpu_s: int = RENDER_CPU_S) -> Tried:
    """Let a child render the prompt, load the file and read a few tokens.

    Args:
        path: the file.
        messages: the chat that will be asked.
        cpu_s: CPU time that rendering may take.

    Raises:
        UserError: it crashed, took too long or wanted too much memory.
    """
    environment = {key: value for key, value in os.environ.items() if key not in DROPPED}
    child = subprocess.Popen(
        [sys.executable, "-m", "xmlgrpo_gguf.trial", path, str(cpu_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, **NO_GPU},
    )
    with child:
        try:
            said = _wait(child, path, json.dumps(messages))
        except subprocess.TimeoutExpired:
            why = f"was not ready to answer after {TIMEOUT_S:.0f} s"
        else:
            if not child.returncode:
                return Tried(**json.loads(said.splitlines()[-1]))
            why = _reason(child.returncode)
        finally:
            child.kill()
    raise UserError(f"{path!r} {why}; the file is broken or hostile, so it is not asked")


def _wait(child: subprocess.Popen[str], path: str, chat: str) -> str:
    try:
        said, _ = child.communicate(chat, timeout=SILENT_S)
    except subprocess.TimeoutExpired:
        print(
            f"trying {path} in a process of its own first (at most {TIMEOUT_S:.0f} s)",
            file=sys.stderr,
        )
        said, _ = child.communicate(timeout=TIMEOUT_S)
    return said


def _reason(code: int) -> str:
    if code > 0:
        return "wants more memory than a file of its size may"
    if -code in (9, 24):  # SIGKILL by the kernel, SIGXCPU
        return "takes without end to load, or its chat template to render"
    return f"makes llama.cpp crash (signal {-code})"


def main() -> int:
    """Do what asking does up to the first token; 1 when the memory does not do, else 0."""
    path, cpu_s = sys.argv[1], int(sys.argv[2])
    size = Path(path).stat().st_size
    if sys.platform == "linux":
        limit = 2 * size + BASE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    read_cpu_s = ceil(READ_CPU_S + READ_CPU_S_PER_GIB * size / 2**30)
    prompt, problem = None, ""
    try:
        chat = json.load(sys.stdin)
        _allow_cpu(read_cpu_s)
        words = _open(path, vocab_only=True)
        _allow_cpu(cpu_s)
        prompt = _render(words, chat)
        _allow_cpu(read_cpu_s)
        ids = words.tokenize(prompt.encode(), add_bos=False, special=True)[:READ_TOKENS]
        _open(path, n_ctx=READ_TOKENS, n_gpu_layers=0, n_threads=1, n_threads_batch=1).eval(ids)
    except MemoryError:
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said in words by who asks
        problem = f"{type(error).__name__}: {error}"[:300]
    print("\n" + json.dumps({"prompt": prompt, "problem": problem}))
    return 0


def _allow_cpu(seconds: int) -> None:
    """This much more CPU time; past it the kernel ends the process."""
    limit = ceil(time.process_time()) + seconds
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, most))


def _open(path: str, **options: Any) -> Any:
    from llama_cpp import Llama

    return Llama(path, verbose=False, **options)


def _render(words: Any, messages: list[dict[str, str]]) -> str:
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    vocabulary = llama_cpp.llama_model_get_vocab(words.model)

    def written(token: int) -> str:
        piece: bytes = llama_cpp.llama_vocab_get_text(vocabulary, token)
        return piece.decode()

    formatter = Jinja2ChatFormatter(
        words.metadata.get("tokenizer.chat_template", ""),
        eos_token=written(words.token_eos()),
        bos_token=written(words.token_bos()),  # the template writes the BOS itself
    )
    text: str = formatter(messages=messages).prompt
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it writes {len(text)} characters")
    return text


if __name__ == "__main__":
    sys.exit(main())

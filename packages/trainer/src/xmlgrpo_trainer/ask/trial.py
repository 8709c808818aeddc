"""A GGUF is tried in a child process before this one loads it.

A file from elsewhere may crash llama.cpp, eat the memory, or carry a chat template that never ends:
then the child dies of it, and the user is told.  What a file merely lacks is said where it is asked
for, in `xmlgrpo_trainer.ask.gguf`.

    python -m xmlgrpo_trainer.ask.trial FILE < MESSAGES.json
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError

TIMEOUT_S = 300.0  # a large file on a slow disk takes minutes to be read
BASE_BYTES = 6 << 30  # Python and llama.cpp's buffers
READ_TOKENS = 8
# a GPU build reserves address space for every device that it sees, more than any sound limit
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "GGML_VK_VISIBLE_DEVICES": ""}


def require_survivable(path: str, messages: list[dict[str, str]]) -> None:
    """Let a child render the prompt, load the file and read a few tokens.

    Raises:
        UserError: it crashed, took too long or wanted too much memory.
    """
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "xmlgrpo_trainer.ask.trial", path],
            input=json.dumps(messages),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment, **NO_GPU},
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        why = f"was not ready to answer after {TIMEOUT_S:.0f} s"
    else:
        if not ended.returncode:
            return
        why = "wants more memory than a file of its size may"
        if ended.returncode < 0:
            why = f"makes llama.cpp crash (signal {-ended.returncode})"
    raise UserError(f"{path!r} {why}; the file is broken or hostile, so it is not asked")


def main() -> int:
    """Do what asking does up to the first token; 1 when the memory does not do, else 0."""
    path = sys.argv[1]
    if sys.platform == "linux":
        limit = 2 * Path(path).stat().st_size + BASE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        _try(path, json.load(sys.stdin))
    except MemoryError:
        return 1
    except Exception:  # noqa: BLE001 - whatever it is, asking meets it again and says it in words
        return 0
    return 0


def _try(path: str, messages: list[dict[str, str]]) -> None:
    from llama_cpp import Llama
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    words: Any = Llama(path, vocab_only=True, verbose=False)
    template = words.metadata.get("tokenizer.chat_template", "")
    prompt = Jinja2ChatFormatter(template, eos_token="", bos_token="")(messages=messages).prompt
    ids = words.tokenize(prompt.encode(), add_bos=False, special=True)[:READ_TOKENS]
    Llama(path, n_ctx=READ_TOKENS, n_gpu_layers=0, verbose=False).eval(ids)


if __name__ == "__main__":
    sys.exit(main())

"""What llama.cpp does in the child process that `probe.run_job` starts.

python -m xmlgrpo_gguf.child_jobs TASK FOLDER
"""

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xmlgrpo_gguf.context import BATCH_TOKENS, SHARED, DecodingContext, run_of
from xmlgrpo_gguf.engine import GgufEngine, Prompt
from xmlgrpo_gguf.model import GgufModel
from xmlgrpo_gguf.probe import LOGITS, PROGRESS, REQUEST, RESULT, OnProgress
from xmlgrpo_gguf.template import Template, import_renderer, render
from xmlgrpo_gguf.threads import decoding_threads
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.prompt import write_prompt

NEWS_S = 0.1
PROBE_TOKENS = 8


def load(request: dict[str, Any], _folder: Path, _tell: OnProgress) -> dict[str, Any]:
    """Load the model of `file` and read a few tokens: what a broken file breaks, breaks here."""
    with GgufModel(Path(request["file"]), gpu_layers=0) as model:
        tokens = run_of(range(min(PROBE_TOKENS, model.vocab_size)), SHARED)
        with DecodingContext(model, slots=1, context=PROBE_TOKENS, threads=1) as decoding:
            decoding.read(tokens)
    return {}


def read_vocabulary(request: dict[str, Any], _folder: Path, _tell: OnProgress) -> dict[str, Any]:
    """Tokenize texts on every route a prompt takes into llama.cpp.

    The request holds `file`, `texts` (rendered prompts), `conversations` (the same as messages, or
    none) and `stop_ids`.  The result holds, a text each: `ids` (special tokens read, none added),
    `chat_texts` and `chat_ids` (what a chat request makes of the messages with the file's own
    template), `raw_ids` (the text without its BOS, special tokens added: llama-server and Ollama).
    """
    with GgufModel(Path(request["file"]), gpu_layers=0, vocab_only=True) as model:
        texts, bos = request["texts"], model.bos_text
        result: dict[str, Any] = {
            "eos_id": model.eos,
            "eot_id": model.eot,
            "ends_generation": {
                str(token): 0 <= token < model.vocab_size and model.ends_generation(token)
                for token in request["stop_ids"]
            },
            "ids": [model.tokenize(text, add_bos=False) for text in texts],
            "raw_ids": [model.tokenize(text.removeprefix(bos), add_bos=True) for text in texts],
            "chat_texts": [],
            "chat_ids": [],
            "template_error": "" if model.chat_template else "the file has no chat template",
        }
        if not model.chat_template:
            return result
        template = Template.of(model)
        import_renderer()
        try:
            for messages in request["conversations"]:
                text = write_prompt(partial(render, template), messages).text
                result["chat_texts"].append(text)
                result["chat_ids"].append(model.tokenize(text, add_bos=False))
        except Exception as error:  # noqa: BLE001 - a template may raise whatever it likes
            result["template_error"] = f"{type(error).__name__}: {error}"
    return result


def measure(request: dict[str, Any], folder: Path, tell: OnProgress) -> dict[str, Any]:
    """Logits along given replies, greedy replies of its own, one answer in words.

    The request holds `file`, `prompts` and `replies` (token ids), `new_tokens`, `conversation` (the
    first prompt as messages; null for a model without a chat template).  The logits that predict
    the replies go to `logits.f32`, float32 rows of the vocabulary's length, one reply after the
    other.  A model whose logits are no numbers writes nothing.
    """
    prompts, replies, new_tokens = request["prompts"], request["replies"], request["new_tokens"]
    longest = max(
        len(prompt) + max(len(reply), new_tokens)
        for prompt, reply in zip(prompts, replies, strict=True)
    )
    started = time.monotonic()
    with GgufModel(Path(request["file"]), gpu_layers=0) as model:
        threads = decoding_threads(model.parameters)
        prompt_threads = decoding_threads(model.parameters, BATCH_TOKENS)
        with DecodingContext(
            model,
            slots=1,
            context=longest,
            threads=threads,
            prompt_threads=prompt_threads,
            fused=False,  # its rounding would be counted as the file's distance
            keep_window=True,
        ) as decoding:
            loaded = time.monotonic()
            finite = _score(decoding, prompts, replies, folder / LOGITS, tell)
            scored = time.monotonic()
            written = _write(decoding, prompts, new_tokens if finite else 0, tell)
            ended = time.monotonic()
        vocabulary = model.vocab_size
    answer, finish_reason = _answer(request, longest, threads, prompt_threads)
    return {
        "vocabulary": vocabulary,
        "replies": written,
        "answer": answer,
        "finish_reason": finish_reason,
        "threads": threads,
        "load_s": round(loaded - started, 3),
        "greedy_tokens_per_s": round(sum(map(len, written)) / max(ended - scored, 1e-9), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 3),
    }


def _score(
    decoding: DecodingContext,
    prompts: list[list[int]],
    replies: list[list[int]],
    path: Path,
    tell: OnProgress,
) -> bool:
    """Write the logits along the replies; whether all of them are numbers."""
    finite = True
    with path.open("wb") as file:
        for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            for count, row in enumerate(decoding.logits_along(prompt, reply), 1):
                file.write(row.tobytes())
                finite = finite and bool(np.isfinite(row).all())
                tell("scoring", i + count / len(reply))
    return finite


def _write(
    decoding: DecodingContext, prompts: list[list[int]], new_tokens: int, tell: OnProgress
) -> list[list[int]]:
    """The greedy reply to each prompt, as token ids, the one that ends it included."""
    written: list[list[int]] = [[] for _ in prompts]

    def on_token(index: int, token: int) -> None:
        written[index].append(token)
        tell("writing", index + len(written[index]) / new_tokens)

    if new_tokens:
        GgufEngine(decoding).write([Prompt(ids, new_tokens) for ids in prompts], on_token=on_token)
    return written


def _answer(
    request: dict[str, Any], context: int, threads: int, prompt_threads: int
) -> tuple[str, str]:
    """What a user of llama-cpp-python gets, and why it ended: "stop" or "length"."""
    from llama_cpp import Llama

    llama = Llama(
        request["file"],
        n_gpu_layers=0,
        n_ctx=context + 8,
        n_threads=threads,
        n_threads_batch=prompt_threads,
        verbose=False,
    )
    options = {
        "temperature": 0.0,
        "repeat_penalty": 1.0,  # llama-cpp-python's default is not 1
        "max_tokens": request["new_tokens"],
    }
    if request["conversation"] is None:
        choice = llama.create_completion(request["prompts"][0], **options)["choices"][0]
        return choice["text"], choice["finish_reason"]
    answer = llama.create_chat_completion(messages=request["conversation"], **options)
    choice = answer["choices"][0]
    return choice["message"]["content"] or "", choice["finish_reason"]


def quantize(request: dict[str, Any], _folder: Path, _tell: OnProgress) -> dict[str, Any]:
    """Quantize one GGUF to another type.

    The request holds `file`, `out`, `file_type` (llama_ftype), `threads` and `imatrix` (an .npz
    of one float32 row a tensor, or null).
    """
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = request["file_type"]
    options.nthread = request["threads"]
    if request["imatrix"]:
        _held, table = _imatrix(Path(request["imatrix"]))
        options.imatrix = ctypes.cast(table, type(options.imatrix))
    code = llama_cpp.llama_model_quantize(
        request["file"].encode(), request["out"].encode(), ctypes.byref(options)
    )
    if code:
        raise RuntimeError(f"llama_model_quantize returned {code}")
    return {}


def _imatrix(path: Path) -> tuple[dict[str, Any], Any]:
    """The rows of an importance matrix, and the C table that points to them while they are held."""
    import llama_cpp

    with np.load(path, allow_pickle=False) as stored:
        rows = {name: np.ascontiguousarray(stored[name], dtype=np.float32) for name in stored}
    table = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()  # the last one stays empty
    for entry, (name, values) in zip(table, rows.items(), strict=False):
        entry.name = name.encode()
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    return rows, table


def progress_writer(path: Path) -> OnProgress:
    """Writes how far a task is into a file, a few times a second: `writing 3.25`."""
    last, new = 0.0, path.with_suffix(".new")

    def tell(phase: str, done: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= NEWS_S:
            last = now
            new.write_text(f"{phase} {done:.3f}")
            new.replace(path)  # nobody reads half of it

    return tell


TASKS: dict[str, Callable[[dict[str, Any], Path, OnProgress], dict[str, Any]]] = {
    "load": load,
    "read_vocabulary": read_vocabulary,
    "measure": measure,
    "quantize": quantize,
}


def _main(task: str, folder: Path) -> None:
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        result = TASKS[task](request, folder, progress_writer(folder / PROGRESS))
    except UserError as error:
        result = {"error": str(error)}
    # surrogates stand for the bytes of a broken vocabulary; ASCII escapes carry them
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))

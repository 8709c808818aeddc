"""What runs llama.cpp: a process of its own, `… -m xmlgrpo_gguf.child TASK REQUEST PIPE`.

Reads a request from a JSON file, writes `result.json` beside it, and says into the pipe how far it
is.  Everything that llama.cpp may do
with a foreign file (crash, abort, eat memory, never return) happens here, under the limits that
`child.run_child` sets.
"""

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xmlgrpo_gguf.one_sequence import BATCH_TOKENS, Decoder

RESULT = "result.json"
NEWS_S = 0.1

Tell = Callable[[str, float], None]


def read_vocabulary(request: dict[str, Any], _folder: Path, _tell: Tell) -> dict[str, Any]:
    """Tokenize texts on every route a prompt takes into llama.cpp.

    The request holds `file`, `texts` (rendered prompts), `conversations` (the same as messages, or
    none) and `stop_ids`.  The result holds, a text each: `ids` (special tokens read, none added),
    `chat_texts` and `chat_ids` (what a chat request makes of the messages with the file's own
    template), `raw_ids` (the text without its BOS, special tokens added: llama-server and Ollama).
    """
    import llama_cpp
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    llama = _open(request["file"], vocab_only=True)
    vocab = llama_cpp.llama_model_get_vocab(llama.model)
    size = llama_cpp.llama_vocab_n_tokens(vocab)
    bos, eos = llama.token_bos(), llama.token_eos()
    bos_text = _token_text(vocab, bos)

    def encode(text: str, *, add_special: bool) -> list[int]:
        ids: list[int] = llama.tokenize(text.encode(), add_bos=add_special, special=True)
        return ids

    result: dict[str, Any] = {
        "vocabulary": size,
        "bos_id": bos,
        "eos_id": eos,
        "eot_id": llama_cpp.llama_vocab_eot(vocab),
        "add_bos": bool(llama_cpp.llama_vocab_get_add_bos(vocab)),
        "ends_generation": {
            str(token): bool(0 <= token < size and llama_cpp.llama_vocab_is_eog(vocab, token))
            for token in request["stop_ids"]
        },
        "ids": [encode(text, add_special=False) for text in request["texts"]],
        "raw_ids": [
            encode(text.removeprefix(bos_text) if bos_text else text, add_special=True)
            for text in request["texts"]
        ],
        "chat_texts": [],
        "chat_ids": [],
        "template_error": "",
    }
    template = llama.metadata.get("tokenizer.chat_template")
    if not template:
        return {**result, "template_error": "the file has no chat template"}
    try:
        formatter = Jinja2ChatFormatter(
            template=template, eos_token=_token_text(vocab, eos), bos_token=bos_text
        )
        for messages in request["conversations"]:
            formatted = formatter(messages=messages)
            result["chat_texts"].append(formatted.prompt)
            result["chat_ids"].append(
                encode(formatted.prompt, add_special=not formatted.added_special)
            )
    except Exception as error:  # noqa: BLE001 - a template may raise whatever it likes
        result["template_error"] = f"{type(error).__name__}: {error}"
    return result


def measure(request: dict[str, Any], folder: Path, tell: Tell) -> dict[str, Any]:
    """Logits along given replies, greedy replies of its own, one answer in words.

    The request holds `file`, `prompts` and `replies` (token ids), `new_tokens`, `conversation` (the
    first prompt as messages; null for a model without a chat template).  The logits that predict
    the replies go to `logits.f32`, float32 rows of the vocabulary's length, one reply after the
    other.
    """
    import numpy as np

    started = time.monotonic()
    longest = max(
        len(prompt) + max(len(reply), request["new_tokens"])
        for prompt, reply in zip(request["prompts"], request["replies"], strict=True)
    )
    llama = _open(request["file"], n_ctx=longest + 8)
    decoder = Decoder(llama)
    loaded = time.monotonic()
    rows = 0
    with (folder / "logits.f32").open("wb") as file:
        for i, (prompt, reply) in enumerate(
            zip(request["prompts"], request["replies"], strict=True)
        ):
            rows_of_logits = decoder.logits((prompt + reply)[:-1], len(prompt) - 1)
            for row, logits in enumerate(rows_of_logits, 1):
                file.write(np.ascontiguousarray(logits, dtype=np.float32).tobytes())
                tell("scoring", i + row / len(reply))
            rows += len(reply)
    scored = time.monotonic()
    replies: list[list[int]] = []
    for prompt in request["prompts"]:
        replies.append([])
        for count, token in enumerate(decoder.greedy(prompt, request["new_tokens"]), 1):
            replies[-1].append(token)
            tell("writing", len(replies) - 1 + count / request["new_tokens"])
    written = time.monotonic()
    decoder.clear()
    answer, finish_reason = _answer(llama, request)
    tokens = sum(map(len, replies))
    return {
        "rows": rows,
        "vocabulary": decoder.vocabulary,
        "replies": replies,
        "answer": answer,
        "finish_reason": finish_reason,
        "threads": decoder.threads,
        "load_s": round(loaded - started, 3),
        "greedy_tokens_per_s": round(tokens / max(written - scored, 1e-9), 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 3),
    }


def _answer(llama: Any, request: dict[str, Any]) -> tuple[str, str]:
    """What a user of llama-cpp-python is told, and why it ended: "stop" or "length"."""
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


def quantize(request: dict[str, Any], _folder: Path, _tell: Tell) -> dict[str, Any]:
    """Quantize one GGUF to another type.

    The request holds `source`, `out`, `file_type` (llama_ftype), `threads` and `imatrix` (an .npz
    of one float32 row a tensor, or null).
    """
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = request["file_type"]
    options.nthread = request["threads"]
    kept: list[Any] = []
    if request["imatrix"]:
        table = _imatrix(Path(request["imatrix"]), kept)
        options.imatrix = ctypes.cast(table, type(options.imatrix))
    code = llama_cpp.llama_model_quantize(
        request["source"].encode(), request["out"].encode(), ctypes.byref(options)
    )
    if code:
        raise RuntimeError(f"llama_model_quantize returned {code}")
    return {}


def _imatrix(path: Path, kept: list[Any]) -> Any:
    """The C table of an importance matrix; `kept` holds what it points to."""
    import llama_cpp
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        rows = {name: np.ascontiguousarray(stored[name], dtype=np.float32) for name in stored}
    kept.append(rows)
    table = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))()  # the last one stays empty
    for entry, (name, values) in zip(table, rows.items(), strict=False):
        entry.name = name.encode()
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    kept.append(table)
    return table


def _open(path: str, **options: Any) -> Any:
    from llama_cpp import Llama

    return Llama(path, n_gpu_layers=0, n_batch=BATCH_TOKENS, verbose=False, **options)


def _token_text(vocab: Any, token: int) -> str:
    import llama_cpp

    if token < 0:
        return ""
    return str(llama_cpp.llama_vocab_get_text(vocab, token).decode("utf-8", errors="replace"))


def teller(pipe: int) -> Tell:
    """Says how far a task is into a pipe, a few times a second: `writing 3.25`."""
    last = 0.0

    def tell(phase: str, done: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= NEWS_S:
            last = now
            os.write(pipe, f"{phase} {done:.3f}\n".encode())

    return tell


TASKS: dict[str, Callable[[dict[str, Any], Path, Tell], dict[str, Any]]] = {
    "read_vocabulary": read_vocabulary,
    "measure": measure,
    "quantize": quantize,
}


def main() -> None:
    """Do the task named on the command line."""
    task, request, tell = sys.argv[1], Path(sys.argv[2]), teller(int(sys.argv[3]))
    result = TASKS[task](json.loads(request.read_text(encoding="utf-8")), request.parent, tell)
    # surrogates stand for the bytes of a broken vocabulary; ASCII escapes carry them
    (request.parent / RESULT).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()

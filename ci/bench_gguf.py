"""Tokens per CPU-second of the GGUF engine, beside llama-cpp-python's own two ways, in one run.

    python ci/bench_gguf.py                    # a random model of gemma-3-270m's shape, q8_0
    python ci/bench_gguf.py --model FILE.gguf --tokens 48 --prompts 32
    python ci/bench_gguf.py --at-least 2.0     # exit code 1 below this ratio to either of them

All read the same file and write the same number of tokens after the same prompts with one thread;
the prompts' own decoding counts.  CPU time, since wall time on a shared machine is the neighbours'
as well.  Every way has a process of its own.  `llama_cpp.server` is measured where its packages are
installed (`pip install 'llama-cpp-python[server]'`).
"""

# ruff: noqa: PLC0415  # a child process imports only what it measures

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError, run_command

PORT = 8127
SERVER_PACKAGES = ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
SLOTS = (1, 8, 16, 32)
# gemma-3-270m's config.json
SHAPE = {
    "vocab_size": 262_144,
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "query_pre_attn_scalar": 256,
    "sliding_window": 512,
    "max_position_embeddings": 2048,
}


def main() -> int:
    """Measure, print the table, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a GGUF; default: a random 270M model")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens a prompt (32)")
    parser.add_argument("--prompts", type=int, default=32, help="how many (32)")
    parser.add_argument("--at-least", type=float, default=0.0, help="ratio that must be reached")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the work of a child process
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.model, options.tokens, options.prompts)))
        return 0
    with TemporaryDirectory(prefix="xmlgrpo-bench-") as scratch:
        model = options.model or build_model(Path(scratch))
        return compare(model, options.tokens, options.prompts, options.at_least)


def compare(model: Path, tokens: int, prompts: int, at_least: float) -> int:
    """Run every way in a process of its own; the exit code."""
    console = Console()
    has_server = all(find_spec(package) for package in SERVER_PACKAGES)
    ways = ["high-level"] + (["server 1", "server 8"] if has_server else [])
    ways += [f"engine {slots}" for slots in SLOTS]
    rates = {}
    table = Table(title=f"{model.name}, {prompts} prompts, {tokens} new tokens", box=SIMPLE_HEAD)
    for name in ("way", "tokens", "CPU s", "tokens / CPU s"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for way in ways:
        row = _in_child(way, model, tokens, prompts)
        rates[way] = row["tokens"] / row["cpu_s"]
        table.add_row(way, str(row["tokens"]), f"{row['cpu_s']:.2f}", f"{rates[way]:.1f}")
    console.print(table)
    if not has_server:
        console.print("llama_cpp.server is not measured: its packages are not installed")
    best = max(rates[f"engine {slots}"] for slots in SLOTS if slots >= 8)
    others = {way: rate for way, rate in rates.items() if not way.startswith("engine")}
    for way, rate in others.items():
        console.print(f"engine with 8 or more slots / {way}: {best / rate:.2f}")
    return int(any(best / rate < at_least for rate in others.values()))


def _in_child(way: str, model: Path, tokens: int, prompts: int) -> dict[str, Any]:
    words = ["--one", way, "--model", model, "--tokens", tokens, "--prompts", prompts]
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise UserError(f"{way} failed with exit code {done.returncode}; its message is above")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(way: str, model: Path, tokens: int, count: int) -> dict[str, Any]:
    """Measure one way; the tokens it wrote and the CPU seconds it took."""
    kind, _, number = way.partition(" ")
    if kind == "high-level":
        return _timed(lambda: _high_level(model, tokens, count))
    if kind == "engine":
        return _engine(model, tokens, count, slots=int(number))
    return _server(model, tokens, count, clients=int(number))


def questions(count: int) -> list[str]:
    """Word problems of ordinary length."""
    return [
        f"A baker makes {12 + n} loaves in the morning and {7 + 3 * n} in the afternoon. She sells "
        f"{5 + n} of them for {2 + n} dollars each and gives {n} away. How many loaves are left?"
        for n in range(count)
    ]


def _texts(count: int) -> list[str]:
    return [
        f"<bos><start_of_turn>user\n{reply.SYSTEM}\n\n{question}<end_of_turn>\n"
        "<start_of_turn>model\n"
        for question in questions(count)
    ]


def _timed(work: Callable[[], tuple[int, float]]) -> dict[str, Any]:
    tokens, began = work()
    return {"tokens": tokens, "cpu_s": time.process_time() - began}


def _high_level(model: Path, tokens: int, count: int) -> tuple[int, float]:
    from llama_cpp import Llama

    llama = Llama(str(model), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    prompts = [llama.tokenize(t.encode(), add_bos=False, special=True) for t in _texts(count)]
    llama.create_completion(prompts[0], max_tokens=2, temperature=0.0)
    began = time.process_time()
    written = 0
    for prompt in prompts:
        done: Any = llama.create_completion(prompt, max_tokens=tokens, temperature=0.0)
        written += done["usage"]["completion_tokens"]
    return written, began


def _engine(model: Path, tokens: int, count: int, *, slots: int) -> dict[str, Any]:
    from xmlgrpo_evaluator.engine import engine_for
    from xmlgrpo_evaluator.gguf_model import open_gguf
    from xmlgrpo_evaluator.sequences import Prompt

    with open_gguf(model) as gguf:
        prompts = [Prompt(gguf.tokenize(text), tokens) for text in _texts(count)]
        with engine_for(gguf, prompts, slots=slots, threads=1) as engine:
            engine.write([Prompt(prompts[0].tokens, 2)])
            began = time.process_time()
            written = sum(w.tokens for w in engine.write(prompts))
            return {"tokens": written, "cpu_s": time.process_time() - began}


def _server(model: Path, tokens: int, count: int, *, clients: int) -> dict[str, Any]:
    with _serving(model) as pid:
        _complete(_texts(1)[0], 2)
        began = _cpu_seconds(pid)
        with ThreadPoolExecutor(clients) as pool:
            written = sum(pool.map(lambda text: _complete(text, tokens), _texts(count)))
        return {"tokens": written, "cpu_s": _cpu_seconds(pid) - began}


@contextmanager
def _serving(model: Path) -> Iterator[int]:
    words = ["--model", model, "--n_ctx", 1024, "--n_threads", 1, "--n_threads_batch", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "llama_cpp.server", *map(str, words), "--port", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_server(process)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for_server(process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise UserError("llama_cpp.server did not start")


def _complete(prompt: str, tokens: int) -> int:
    body = {"prompt": prompt.removeprefix("<bos>"), "max_tokens": tokens, "temperature": 0.0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/completions",
        data=json.dumps({**body, "repeat_penalty": 1.0}).encode(),
        headers={"Content-Type": "application/json"},
    )
    # the address is fixed and on this machine
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        return int(json.load(answer)["usage"]["completion_tokens"])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


# a model to measure with, when none is at hand


def build_model(scratch: Path) -> Path:
    """A random q8_0 GGUF of gemma-3-270m's shape, with a small tokenizer of Gemma's form.

    The rows of markup and of single bytes are zero, so that no reply ends early and none holds
    half a character, on which the high-level API loses count.
    """
    from xmlgrpo_exporter.converter import convert, find_converter
    from xmlgrpo_exporter.staging import stage

    folder = scratch / "model"
    folder.mkdir()
    silent = _build_tokenizer(folder)
    _build_weights(folder, silent)
    (scratch / "staged").mkdir()
    out = scratch / "random-270m-q8_0.gguf"
    tree = find_converter(lambda line: print(line, file=sys.stderr))
    staged = stage(folder, scratch / "staged", prompts_bring_bos=True)
    convert(tree, staged, out, outtype="q8_0", name="random", on_poll=lambda: None)
    return out


def _build_tokenizer(folder: Path) -> list[int]:
    """Write the tokenizer; returns the ids that must not be written."""
    import sentencepiece
    from transformers import GemmaTokenizer

    markup = ["<mask>", "<start_of_turn>", "<end_of_turn>"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*questions(200), *[reply.SYSTEM] * 20]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=420,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        unk_piece="<unk>",
        user_defined_symbols=markup,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = GemmaTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    for token in stored["added_tokens"]:
        token["special"] = token["special"] or token["content"] in markup
    path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    count = processor.vocab_size()
    special = set(tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>", *markup]))
    return [i for i in range(count) if processor.is_byte(i) or i in special]


def _build_weights(folder: Path, silent: list[int]) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(**SHAPE, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.get_input_embeddings().weight[silent] = 0
    model.save_pretrained(folder)


if __name__ == "__main__":
    run_command(main)

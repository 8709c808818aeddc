"""Tokens per CPU-second of the GGUF engine, beside llama-cpp-python's own loop, in one run.

    python -m bench.cpu.gguf_engine                 # a random model of gemma-3-270m's shape, q8_0
    python -m bench.cpu.gguf_engine --model FILE.gguf --tokens 48 --prompts 32

All read the same file and write the same number of tokens after the same prompts with one thread;
the prompts' own decoding counts.  CPU time, since wall time on a shared machine is the neighbours'
as well.  Every way has a process of its own.  The last column counts the replies that are those of
the high-level API, one at a time.
"""

# ruff: noqa: PLC0415  # a child process imports only what it measures

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.shared.texts import markdown
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError

REFERENCE = "high-level"
SLOTS = (1, 8, 16, 32)
CONTEXT = 1024


@dataclass(frozen=True)
class Measured:
    """What one way wrote, and the CPU time it took."""

    tokens: int
    cpu_s: float
    texts: list[str]

    @property
    def rate(self) -> float:
        """Tokens per CPU-second."""
        return self.tokens / self.cpu_s


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a GGUF; default: a random 270M model")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens a prompt (96)")
    parser.add_argument("--prompts", type=int, default=32, help="how many (32)")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the work of a child process
    options = parser.parse_args()
    if options.one:
        measured = measure(options.one, options.model, options.tokens, options.prompts)
        print(json.dumps(asdict(measured)))
        return
    with TemporaryDirectory(prefix="xmlgrpo-bench-") as scratch:
        model = options.model or _random_model(Path(scratch))
        compare(model, options.tokens, options.prompts)


def _random_model(scratch: Path) -> Path:
    from ci.real_gemma.random_gemma import build_model

    return build_model(scratch, [*questions(200), *[reply.SYSTEM] * 20])


def compare(model: Path, tokens: int, prompts: int) -> None:
    """Run every way in a process of its own, and print the table."""
    ways = [REFERENCE, *(f"engine {slots}" for slots in SLOTS)]
    measured = {way: _in_child(way, model, tokens, prompts) for way in ways}
    reference = measured[REFERENCE]
    rows = []
    for way, one in measured.items():
        same = sum(a == b for a, b in zip(one.texts, reference.texts, strict=True))
        speed = (f"{one.cpu_s:.2f}", f"{one.rate:.1f}", f"{one.rate / reference.rate:.2f}")
        rows.append([way, str(one.tokens), *speed, f"{same}/{len(reference.texts)}"])
    print(f"{model.name}, {prompts} prompts, {tokens} new tokens\n")
    head = ["way", "tokens", "CPU s", "tokens / CPU s", f"x {REFERENCE}", "same replies"]
    print(markdown(head, rows))


def _in_child(way: str, model: Path, tokens: int, prompts: int) -> Measured:
    words = ["--one", way, "--model", model, "--tokens", tokens, "--prompts", prompts]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cpu.gguf_engine", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise UserError(f"{way} failed with exit code {done.returncode}; its message is above")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(way: str, model: Path, tokens: int, count: int) -> Measured:
    """Measure one way."""
    kind, _, number = way.partition(" ")
    if kind == REFERENCE:
        return _high_level(model, tokens, count)
    return _engine(model, tokens, count, slots=int(number))


def questions(count: int) -> list[str]:
    """Word problems of ordinary length."""
    return [
        f"A baker makes {12 + n} loaves in the morning and {7 + 3 * n} in the afternoon. She sells "
        f"{5 + n} of them for {2 + n} dollars each and gives {n} away. How many loaves are left?"
        for n in range(count)
    ]


def texts(count: int) -> list[str]:
    """The questions as Gemma's chat template writes them."""
    return [
        f"<bos><start_of_turn>user\n{reply.SYSTEM}\n\n{question}<end_of_turn>\n"
        "<start_of_turn>model\n"
        for question in questions(count)
    ]


def _high_level(model: Path, tokens: int, count: int) -> Measured:
    from llama_cpp import Llama

    llama = Llama(str(model), n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, verbose=False)
    prompts = [llama.tokenize(t.encode(), add_bos=False, special=True) for t in texts(count)]

    def write(prompt: list[int], limit: int) -> dict[str, Any]:
        done: Any = llama.create_completion(prompt, max_tokens=limit, temperature=0.0)
        return dict(done)

    write(prompts[0], 2)
    return _timed(
        lambda: [
            (done["choices"][0]["text"], done["usage"]["completion_tokens"])
            for done in (write(prompt, tokens) for prompt in prompts)
        ],
    )


def _engine(model: Path, tokens: int, count: int, *, slots: int) -> Measured:
    from xmlgrpo_gguf.engine import Prompt, engine_for
    from xmlgrpo_gguf.model import GgufModel

    with GgufModel(model) as gguf:
        prompts = [Prompt(gguf.tokenize(text), tokens) for text in texts(count)]
        with engine_for(gguf, prompts, slots=slots, threads=1) as engine:
            engine.write([Prompt(prompts[0].tokens, 2)])
            return _timed(lambda: [(w.text, w.tokens) for w in engine.write(prompts)])


def _timed(write: Callable[[], list[tuple[str, int]]]) -> Measured:
    began = time.process_time()
    written = write()
    return Measured(
        sum(n for _, n in written), time.process_time() - began, [text for text, _ in written]
    )


if __name__ == "__main__":
    run_command(main)

"""How long a sampled completion takes with each rollout engine, in one run on one machine.

    python -m bench.cpu.rollout                # 8 prompts x 8 samples, as in a step of `make train`
    python -m bench.cpu.rollout --prompts 64 --samples 1 --threads 2

The model has the shape of the embedded default, random weights and a LoRA adapter; one token in
forty ends a completion, so that lengths differ as they do in training.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

from bench.shared.random_model import adapted, random_weights
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Engine, Sampling
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_trainer.config.run_config import ModelConfig
from xmlgrpo_trainer.plan.shapes import find_shape

MAX_NEW_TOKENS = 80
PROMPT_TOKENS = (45, 65)
ONE_STOP_IN = 40
ROUNDS = 5


def main() -> None:
    """Print one line an engine and their ratio."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--prompts", type=int, default=8)
    options.add_argument("--samples", type=int, default=8)
    options.add_argument("--threads", type=int, default=1)
    asked = options.parse_args()

    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    shape = find_shape(ModelConfig(name="tiny"))
    model = adapted(random_weights(shape, seed=0).float().cpu())
    stops = list(range(7, shape.vocabulary, ONE_STOP_IN))
    lengths = torch.randint(*PROMPT_TOKENS, (asked.prompts,)).tolist()
    prompts = [torch.randint(7, shape.vocabulary, (length,)).tolist() for length in lengths]
    sampling = Sampling(MAX_NEW_TOKENS, temperature=1.0)
    engines: dict[str, Engine] = {
        "generate": GenerateEngine(model, stops, pad_id=0),
        "graph": StaticEngine(model, stops, pad_id=0),
    }
    # taking turns, so that a busy moment of the machine does not fall on one engine alone
    timings: dict[str, list[float]] = {name: [] for name in engines}
    completions: list[list[int]] = []
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.refresh()
            completions = [c.tokens for c in engine(prompts, asked.samples, sampling)]
            timings[name].append((time.perf_counter() - started) / len(completions))
    print(
        f"{asked.prompts} prompts x {asked.samples} samples, {asked.threads} thread(s), "
        f"{statistics.mean(map(len, completions)):.0f} tokens a completion, median of {ROUNDS}"
    )
    for name, seconds in timings.items():
        print(f"{name:10}{1000 * statistics.median(seconds):8.2f} ms a completion")
    print(f"generate / graph = {ratio(timings['generate'], timings['graph']):.1f}")


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times longer the first takes, by the medians."""
    return statistics.median(slow) / statistics.median(fast)


if __name__ == "__main__":
    main()

"""More supervised training of a tiny model that is built: the controls' other half."""

import json
import random
import shutil
from collections.abc import Collection
from pathlib import Path

from transformers import AutoModelForCausalLM

from xmlgrpo_rewards.run_folder import write_json
from xmlgrpo_trainer.tiny.build import DESCRIPTION
from xmlgrpo_trainer.tiny.problems import generate, warm_problems
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.tokenizer import load_tokenizer
from xmlgrpo_trainer.tiny.warm_start import Mixture, OnProgress, examples, train_on

LOWER_RATES = 0.5  # of the warm start's peaks: the model is trained already


def continue_warm_start(
    folder: Path,
    out: Path,
    *,
    steps: int,
    mixture: Mixture,
    exclude: Collection[str],
    on_progress: OnProgress | None = None,
) -> Path:
    """Train a tiny model on fresh problems and save it as a model folder of its own.

    Args:
        folder: what `ensure_tiny_model` made; left as it is.
        out: the new folder.
        steps: optimiser steps, with the warm start's batch and half of its peak rates.
        mixture: which kinds of answer it learns from.
        exclude: questions that must not occur: the held-out ones.
        on_progress: called every few steps.

    Returns:
        `out`, which is written only if it is not there already.
    """
    if (out / DESCRIPTION).is_file():
        return out
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    settings, seed = TinySettings(**description["settings"]), description["seed"]
    rows = generate(
        steps * settings.warm_batch,
        f"further {seed}",
        largest_operand=settings.largest_operand,
        exclude={row["question"] for row in warm_problems(settings, seed)} | set(exclude),
    )
    kinds = random.Random(f"further kinds {seed}")  # noqa: S311 - no secret depends on it
    model = AutoModelForCausalLM.from_pretrained(folder)
    loss = train_on(
        model,
        examples(load_tokenizer(folder), rows, mixture, kinds),
        batch=settings.warm_batch,
        threads=settings.warm_threads,
        muon_lr=settings.muon_lr * LOWER_RATES,
        adamw_lr=settings.adamw_lr * LOWER_RATES,
        seed=seed,
        on_progress=on_progress,
    )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what an interrupted call left
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns("*.safetensors", DESCRIPTION))
    model.save_pretrained(partial)
    further = {"steps": steps, "mixture": mixture._asdict(), "loss": loss}
    write_json(partial / DESCRIPTION, description | {"further": further})
    partial.replace(out)
    return out

"""More supervised training of a tiny model that is built: the controls' other half."""

import hashlib
import json
import random
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import write_json
from xmlgrpo_trainer.tiny.build import DESCRIPTION
from xmlgrpo_trainer.tiny.examples import Mixture, examples
from xmlgrpo_trainer.tiny.problems import generate, warm_problems
from xmlgrpo_trainer.tiny.settings import TinySettings
from xmlgrpo_trainer.tiny.tokenizer import load_tokenizer
from xmlgrpo_trainer.tiny.warm_start import OnProgress, train_on

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

    Raises:
        UserError: `out` holds a model that was made from another one or in another way.
    """
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    made = {
        "base": _weights_sha256(folder),
        "steps": steps,
        "mixture": mixture._asdict(),
        "exclude": hashlib.sha256("\0".join(sorted(exclude)).encode()).hexdigest(),
    }
    if (out / DESCRIPTION).is_file():
        _refuse_other(out, made)
        return out
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
    write_json(partial / DESCRIPTION, description | {"further": made | {"loss": loss}})
    partial.replace(out)
    return out


def _weights_sha256(folder: Path) -> str:
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_other(out: Path, made: dict[str, Any]) -> None:
    stored = json.loads((out / DESCRIPTION).read_text(encoding="utf-8")).get("further", {})
    changed = [name for name, value in made.items() if stored.get(name) != value]
    if changed:
        raise UserError(
            f"{out} holds a model whose {', '.join(changed)} differed from what is asked for now; "
            "remove that folder, or name another"
        )

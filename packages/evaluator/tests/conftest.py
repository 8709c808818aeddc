"""A finished run of a tiny model, its GGUF, and the commands on them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import MANIFEST_FORMAT, RunFolder

from .tiny_model import ITEMS, build_adapter, build_base, export_gguf, rows

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True)
class Tiny:
    """Where the fixture put things."""

    base: Path
    adapter: Path
    items: Path
    run: RunFolder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    root = tmp_path_factory.mktemp("tiny")
    base, run = root / "base", RunFolder(root / "outputs" / "sums")
    build_base(base)
    build_adapter(base, run.adapter)
    run.holdout.mkdir()
    items = run.holdout / "items.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    run.config.write_text("grpo: {max_completion_length: 48}\n", encoding="utf-8")
    write_json(run.manifest, manifest(base))
    return Tiny(base, run.adapter, items, run)


def manifest(base: Path) -> dict:
    def held_out(right: int) -> dict:
        return {"strict_accuracy": {"hits": right, "total": ITEMS}, "mean_tokens": 30.0}

    return {
        "format": MANIFEST_FORMAT,
        "run": "sums",
        "finished": "2026-01-01T00:00:00+00:00",
        "task": "gsm8k",
        "base": {"name": str(base), "revision": None, "dtype": "float32", "quantized_4bit": False},
        "steps": 10,
        "best_step": 10,
        "data": {"source": "generated", "name": "sums"},
        "holdout": {"rows": ITEMS, "before": held_out(3), "after": held_out(9)},
    }


@pytest.fixture(scope="session")
def tiny_gguf(tiny, tmp_path_factory) -> Path:
    return export_gguf(tiny.base, tmp_path_factory.mktemp("gguf"))


SETTINGS = ("--max-new-tokens", "48", "--quiet")


def command(*words: object) -> int | None:
    """`xmlgrpo-eval` in this process."""
    from xmlgrpo_evaluator.cli import _main

    return _main([str(word) for word in words])


def replies(path: Path) -> list[str]:
    """The first reply to every item of a result of one task."""
    [task] = json.loads(path.read_text(encoding="utf-8"))["tasks"].values()
    return [item["replies"][0] for item in task["items"]]


@pytest.fixture(scope="session")
def base_result(tiny, tmp_path_factory) -> Path:
    """The result of the base on its own items."""
    out = tmp_path_factory.mktemp("base") / "base.json"
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    return out

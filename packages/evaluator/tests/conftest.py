"""A finished run of a tiny model, its GGUF, and the commands on them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from finished_runs import finished
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import HeldOut, Manifest

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
    items = write_rows(run.holdout_items, rows())
    finish(run, base)
    return Tiny(base, run.adapter, items, run)


def finish(run: RunFolder, base: Path, /, **changes) -> Manifest:
    """Write the manifest of a run on the items, over a base."""

    def held_out(right: int) -> dict[str, Any]:
        return {"strict_accuracy": {"hits": right, "total": ITEMS}, "mean_tokens": 30.0}

    result = HeldOut(ITEMS, held_out(3), held_out(9))
    return finished(run, base, **{"max_reply_tokens": 48, "holdout": result, **changes})


def write_rows(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny.base, tmp_path_factory.mktemp("gguf"))


SETTINGS = ("--max-new-tokens", "48", "--quiet")


def command(*words: object) -> int | None:
    """`xmlgrpo-eval` in this process."""
    from xmlgrpo_evaluator.cli import run

    return run([str(word) for word in words])


def replies(path: Path) -> list[str]:
    """The first reply to every item of a result of one task."""
    [task] = json.loads(path.read_text(encoding="utf-8"))["tasks"].values()
    return [item["replies"][0] for item in task["items"]]


@pytest.fixture(scope="session")
def base_result(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of the base on its own items."""
    out = tmp_path_factory.mktemp("base") / "base.json"
    command("run", "--model", tiny.base, "--data", tiny.items, "--out", out, *SETTINGS)
    return out

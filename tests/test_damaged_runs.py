"""Every fault at every file of a run, before every stage: one sentence, or what a sound run gives.

A disk fails, a copy is cut off, a file is edited, a folder or a link stands in a file's place.  No
model is loaded: these are the files that a stage reads before it asks one, and what it makes of
them.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from damage import every_fault, files_of
from finished_runs import finished
from xmlgrpo_evaluator.models import run_model
from xmlgrpo_evaluator.settings import own_items
from xmlgrpo_exporter.merge.adapter import read_adapter
from xmlgrpo_exporter.merge.base import pristine_base
from xmlgrpo_exporter.proof.problems import gate_problems, model_digests, result_problems
from xmlgrpo_exporter.publish.preflight import Destination
from xmlgrpo_exporter.publish.release import prepare_release
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_run.files import write_json
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest, require_as_trained
from xmlgrpo_run.metrics import append_row
from xmlgrpo_trainer.ask.source import of_run
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.problems.exam import HoldoutResult, Item, read_result, save_items, save_result
from xmlgrpo_trainer.problems.keep_best import check_best, keep, stopped_early
from xmlgrpo_trainer.run.checkpoints import find_checkpoints, is_last, seal
from xmlgrpo_trainer.run.opening import open_run
from xmlgrpo_trainer.run.record import write_record
from xmlgrpo_viewer.page.report import render
from xmlgrpo_viewer.reading.run_view import read_run

CONFIG: RunConfig = check_config({"seed": 3}, "test")
IDENTITY = {"problems": "27c1", "backend": "plain"}
QUIET = Console(quiet=True)


@dataclass(frozen=True)
class Adapter:
    """As far as the keeper of the best looks at a peft model: it saves itself."""

    value: float

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 4})
        weights = np.full((4, 8), self.value, dtype=np.float32)
        save_file({"layers.0.q_proj.lora_A.weight": weights}, folder / "adapter_model.safetensors")


def write_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"model_type": "gemma3_text"})
    write_json(folder / "tokenizer.json", {"version": "1.0"})
    save_file({"embed": np.ones((8, 8), dtype=np.float32)}, folder / "model.safetensors")
    return folder


def write_unfinished(run: RunFolder, base: Path) -> None:
    """A run that was stopped after its second checkpoint."""
    problems = [Example("1", "1 + 1?", "2", "1 + 1 = 2")]
    write_record(run, CONFIG, IDENTITY, {"grpo": {}, "lora": {}}, base)
    save_items(run.holdout_items, get_task("gsm8k"), problems)
    wrong = (False,) * 6
    item = Item("1", "1 + 1?", "2", "2", 1, *wrong)
    save_result(run.holdout_before, HoldoutResult(0, (item,)))
    append_row(run.metrics, {"step": 4, "loss": 0.5})
    keep(run, Adapter(0.25), 2, 0.5)
    for step in (2, 4):
        checkpoint = run.checkpoints / f"checkpoint-{step}"
        Adapter(step).save_pretrained(checkpoint)
        write_json(checkpoint / "trainer_state.json", {"global_step": step, "max_steps": 6})
        (checkpoint / "optimizer.pt").write_bytes(bytes(range(200)))
        seal(checkpoint)


def write_finished(run: RunFolder, base: Path) -> None:
    """The same run at its end."""
    write_unfinished(run, base)
    shutil.rmtree(run.checkpoints)
    Adapter(0.25).save_pretrained(run.adapter)
    write_json(run.adapter / "tokenizer.json", {"version": "1.0"})
    run.curves.write_bytes(b"\x89PNG\r\n\x1a\n curves")
    finished(run, base, base=None or base_facts(run, base), task="gsm8k")


def base_facts(run: RunFolder, base: Path) -> Any:
    from finished_runs import base_of

    return base_of(run, base, name=str(base))


def ask(run: RunFolder, _base: Path) -> object:
    return of_run(str(run.root), merged=False)


def evaluate(run: RunFolder, _base: Path) -> object:
    manifest = read_manifest(run)
    items = own_items(run, manifest)
    return [
        run_model(run, manifest, what) for what in ("base", "tuned")
    ], items and items.read_text()


def report(run: RunFolder, _base: Path) -> object:
    return render(read_run(run))


def merge(run: RunFolder, _base: Path) -> object:
    manifest = read_manifest(run)
    adapter = read_adapter(run.adapter)
    require_as_trained(run, manifest, adapter.folder)
    return adapter, pristine_base(run, manifest.base, None, "auto")


def push(run: RunFolder, _base: Path) -> object:
    to = Destination("https://hub.example", "alice/sums", "main", private=True)
    given: dict[str, Any] = {"look_up": lambda hub_id: None, "secrets": (), "console": QUIET}
    release = prepare_release(run, to, ["adapter"], "google/gemma-3-1b-it", **given)
    digests = model_digests(release, QUIET)
    problems = [*gate_problems(release, digests, ungated=False), *result_problems(release, digests)]
    if problems:
        raise UserError("; ".join(problems))
    return [(file.target, file.sha256) for file in release.files]


def show(run: RunFolder, _base: Path) -> object:
    """The same training command again, after the end."""
    with open_run(run, CONFIG) as state:
        return state, read_manifest(run)


def go_on(run: RunFolder, base: Path) -> object:
    """The same training command again, before the end: what the next step stands on."""
    with open_run(run, CONFIG) as state:
        write_record(run, CONFIG, IDENTITY, {"grpo": {}, "lora": {}}, base)
        before = read_result(run.holdout_before)
        newest = find_checkpoints(run.checkpoints).newest
        step = 0 if newest is None else int(newest.name.removeprefix("checkpoint-"))
        check_best(run, step)
        weights = newest and (newest / "adapter_model.safetensors").read_bytes()
        ends = newest and (is_last(newest) or stopped_early(run, step))
        return state, before, step, weights, ends


FINISHED = {
    "show": show,
    "ask": ask,
    "eval": evaluate,
    "report": report,
    "merge": merge,
    "push": push,
}
# an older sound checkpoint is as good as the newest
OLDER = "checkpoints/checkpoint-4/"


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["xmlgrpo"])


def wrong_of(
    tmp_path: Path,
    write: Callable[[RunFolder, Path], None],
    stage: Callable[[RunFolder, Path], object],
) -> list[str]:
    there = tmp_path / "there"
    run, base = RunFolder(there / "outputs" / "sums"), there / "outputs" / "base"
    write_base(base)
    write(run, base)

    def is_fine(file: str, value: Any, sound: Any) -> bool:
        """Also where it went on from an older checkpoint, or published the other files only."""
        if value == sound:
            return True
        if stage is go_on:
            return OLDER in file and value[2] == 2
        if stage is report:  # it says what is gone, and that a run without a manifest has stopped
            gone = f"Left out: {tmp_path / 'there' / file}, which training left, is gone"
            is_stopped = "manifest.json" in file and 'class="state stopped"' in str(value)
            return gone in str(value) or is_stopped
        return stage is push and set(value) < set(sound)

    return every_fault(there, files_of(there), lambda: stage(run, base), is_fine)


@pytest.mark.parametrize("stage", FINISHED.values(), ids=FINISHED)
def test_a_finished_run(tmp_path: Path, stage: Callable[[RunFolder, Path], object]) -> None:
    wrong = wrong_of(tmp_path, write_finished, stage)
    assert not wrong, "\n".join(wrong)


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    wrong = wrong_of(tmp_path, write_unfinished, go_on)
    assert not wrong, "\n".join(wrong)

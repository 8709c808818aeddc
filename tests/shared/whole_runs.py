"""Runs as their stages leave them, by the stages' own writers, and no model in them."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.numpy import save_file

from finished_runs import base_of, compared, finished
from xmlgrpo_evaluator.journal import CountedReply, open_journal
from xmlgrpo_evaluator.models import Model, run_ladder
from xmlgrpo_evaluator.results.result import RESULT_FORMAT
from xmlgrpo_evaluator.settings import Evaluation, run_settings
from xmlgrpo_exporter.check.check_json import FileCheck, Gate, write_check
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_run.digests import file_sha256, model_digest
from xmlgrpo_run.files import write_json, write_sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.measures.holdout import HoldoutResult, Item, save_result
from xmlgrpo_run.metrics import append_row
from xmlgrpo_trainer.config.run_config import RunConfig, check_config
from xmlgrpo_trainer.problems.exam import save_items
from xmlgrpo_trainer.problems.keep_best import keep
from xmlgrpo_trainer.resume.checkpoints import seal
from xmlgrpo_trainer.resume.record import write_record

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
    save_result(run.validation(2), HoldoutResult(2, (item,)))
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
    right = Item("1", "1 + 1?", "2", render("1 + 1 = 2", "2"), 9, *(True,) * 3, False, False, True)
    save_result(run.holdout_after, HoldoutResult(4, (right,)))
    row = {"step": 4, "id": "1", "question": "1 + 1?", "gold": "2", "completion": right.reply}
    marks = {"strict_correct": True, "lenient_correct": True, "scores": {}}
    write_text(run.completions_of(4), json.dumps(row | marks) + "\n")
    Adapter(0.25).save_pretrained(run.adapter)
    write_json(run.adapter / "tokenizer.json", {"version": "1.0"})
    run.curves.write_bytes(b"\x89PNG\r\n\x1a\n curves")
    finished(run, base, base=base_of(run, base, name=str(base)), task="gsm8k")


def write_exported(run: RunFolder, base: Path) -> None:
    """The same with what the stages after training leave."""
    write_finished(run, base)
    write_base(run.merged)
    compared(run.merged)
    run.gguf.mkdir()
    gguf = run.gguf / "sums-q8_0.gguf"
    gguf.write_bytes(b"GGUF" + bytes(range(200)))
    entry = FileCheck(gguf.name, "q8_0", 204, file_sha256(gguf), (Gate("file", passed=True),))
    write_check(run.gguf, {"model": {"fingerprint": model_digest(run.merged)}}, [entry])
    for label, model in models(run).items():
        settings = run_settings(run, read_manifest(run), {})
        evaluation = Evaluation(model, settings, settings.result_file(run.eval, label))
        asked = evaluation.identity("27c1")
        about = {"format": RESULT_FORMAT, "label": label, "subject": asked, "engines": None}
        write_sealed(evaluation.out, about | {"tasks": {"gsm8k_xml": {"metrics": {}, "items": []}}})
        with open_journal(evaluation.journal, asked) as journal:
            for key in "abc":
                journal.add((key, 0), CountedReply(key, tokens=1, truncated=False))
    about = {"task": "gsm8k_xml", "metric": "x", "items": 1, "rungs": [], "tolerance": 0.02}
    write_sealed(run.ladder, about | {"passed": None})


def models(run: RunFolder) -> dict[str, Model]:
    return {model.label: model for model in run_ladder(run, read_manifest(run))}

"""The controls of the embedded default: further training, and the table of all."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from transformers import AutoModelForCausalLM

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import FORM_REWARDS
from xmlgrpo_trainer import controls
from xmlgrpo_trainer.config.run_config import HoldoutConfig
from xmlgrpo_trainer.controls import train_further
from xmlgrpo_trainer.tiny.build import ensure_tiny_model
from xmlgrpo_trainer.tiny.examples import Mixture
from xmlgrpo_trainer.tiny.problems import problem_splits
from xmlgrpo_trainer.tiny.settings import TinySettings

CONFIG = Path(__file__).parents[3] / "configs" / "tiny.yaml"
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 16,
    "mlp_size": 48,
    "warm_steps": 40,
    "warm_batch": 8,
}


def test_further_training_makes_a_model_folder_and_leaves_the_first_alone(tmp_path):
    base = ensure_tiny_model(tmp_path, TinySettings(**SMALL), seed=0)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    held_out = {row["question"] for row in problem_splits(TinySettings(**SMALL), 0, 50, 1).holdout}
    steps = []
    asked: dict[str, Any] = {
        "steps": 20,
        "mixture": Mixture(worked=1.0, tagged=1.0),
        "exclude": held_out,
    }
    out = train_further(base, tmp_path, **asked, on_progress=lambda step, *_: steps.append(step))
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    assert {path.name for path in out.iterdir()} == set(before)
    assert (out / "tokenizer.model").read_bytes() == before["tokenizer.model"]
    assert (out / "model.safetensors").read_bytes() != before["model.safetensors"]
    AutoModelForCausalLM.from_pretrained(out)
    further = json.loads((out / "tiny.json").read_text())["further"]
    assert further["steps"] == 20
    assert further["mixture"] == {"worked": 1.0, "tagged": 1.0}
    assert steps == [0, 20]

    def trained_again(*_: object) -> None:
        pytest.fail("trained again")

    assert train_further(base, tmp_path, **asked, on_progress=trained_again) == out


def test_all_that_decides_a_model_is_in_its_folders_name(tmp_path):
    few = TinySettings(**SMALL | {"warm_steps": 1})
    base, other = (ensure_tiny_model(tmp_path, few, seed=seed) for seed in (0, 1))
    asked: dict[str, Any] = {"steps": 1, "mixture": Mixture(1.0, 1.0), "exclude": {"What is 1+2?"}}
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"steps": 2},
        {"mixture": Mixture(1.0, 0.5)},
        {"exclude": {"What is 1+1?"}},
    )
    folders = [train_further(base, tmp_path, **asked | change) for change in changes]
    folders.append(train_further(other, tmp_path, **asked))
    assert len(set(folders)) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["data.source=json", "data.path=x"], "data.source 'generated'", id="real"),
        pytest.param(["model.name=google/gemma-3-1b-it"], "model.name 'tiny'", id="large-model"),
    ],
)
def test_only_the_embedded_default_has_controls(arguments, says, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo-controls", "--config", str(CONFIG), *arguments])
    with pytest.raises(UserError, match=says):
        controls.run()


@pytest.mark.parametrize(
    ("file", "blind"),
    [
        ("tiny.yaml", {"int_reward_func", *FORM_REWARDS}),
        ("tiny-json.yaml", set(FORM_REWARDS)),
        ("tiny-sql.yaml", set(FORM_REWARDS)),
        ("tiny-code.yaml", set(FORM_REWARDS)),
    ],
)
def test_the_control_is_paid_for_the_form_alone(file, blind):
    config = yaml.safe_load((CONFIG.parent / file).read_text(encoding="utf-8"))
    assert set(controls.form_rewards(config["rewards"])) == blind


def test_no_right_answer_chooses_the_controls_adapter():
    holdout = HoldoutConfig(report_rows=3)
    assert holdout.keep == "best"
    assert controls.last_kept(holdout) == HoldoutConfig(report_rows=3, keep="last")


def test_the_table_shows_every_result_with_its_interval():
    shares = {name: {"hits": 30, "total": 40} for name in controls.SHOWN}
    console = Console(width=160, record=True, file=sys.stderr)
    console.print(controls.table({"warm start": shares, "GRPO, all rewards": shares}))
    text = console.export_text()
    assert text.count("75.0% [59.8%, 85.8%]") == 2 * len(controls.SHOWN)
    assert "warm start" in text
    assert "lenient accuracy" in text


@pytest.mark.slow
def test_all_controls_run_from_one_warm_start(tmp_path, monkeypatch, capsys):
    """Every stage with a model too small to learn anything: the way, not the result."""
    monkeypatch.chdir(tmp_path)
    overrides = [f"model.tiny.{name}={value}" for name, value in SMALL.items()]
    overrides += ["grpo.max_steps=2", "holdout.report_rows=8", "holdout.validation_rows=4"]
    overrides += ["grpo.per_device_train_batch_size=8", "data.generated_rows=20"]
    overrides += ["grpo.max_completion_length=16"]
    command = ["demo-controls", "--config", str(CONFIG), "--supervised-steps", "20", *overrides]
    monkeypatch.setattr(sys, "argv", command)
    assert controls.run() == 0
    first = capsys.readouterr().out
    for row in (
        "warm start",
        "GRPO, all rewards",
        "GRPO, format rewards only",
        "supervised, the same mixture",
        "supervised, worked answers in the tags",
    ):
        assert row in first
    assert len(list((tmp_path / "outputs" / "base").glob("tiny-*"))) == 1  # made once, for all
    # a second call trains nothing: it prints the table again
    assert controls.run() == 0
    assert "nothing to train" in capsys.readouterr().out

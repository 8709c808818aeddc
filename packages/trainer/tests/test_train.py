"""Whole runs of the tiny model on the CPU: what they leave, how they stop, how they go on."""

import importlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import forked
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.train import EXIT_LOST, train

pytestmark = pytest.mark.slow

QuickConfig = Callable[..., RunConfig]
# the module; the package offers a function of the same name
TOTAL: Any = importlib.import_module("xmlgrpo_rewards.total")
# What depends on the clock, or counts what one process did.
NOT_COMPARED = {"time", "step_time", "rollout_time", "train_runtime", "peak_mib"}


def quiet() -> Console:
    return Console(quiet=True)


def steps(root: Path) -> list[dict[str, Any]]:
    rows = read_log(root / "metrics.jsonl").rows.values()
    return [{k: v for k, v in row.items() if k not in NOT_COMPARED} for row in rows]


@pytest.fixture(scope="module")
def finished(runs: Path, tiny_base: Path, quick_config: QuickConfig) -> Path:
    """A run that went through without interruption."""
    root = runs / "finished"
    assert train(quick_config(), root, quiet()) == 0
    return root


def test_a_run_leaves_what_the_other_packages_read(finished: Path, tiny_base: Path) -> None:
    folder = RunFolder(finished)
    manifest = read_manifest(folder)
    assert manifest.base.name == str(tiny_base)
    assert manifest.base.folder(folder) == tiny_base
    assert manifest.adapter == model_digest(folder.adapter)
    assert (manifest.steps, manifest.backend, manifest.rollout) == (6, "plain", "graph")
    assert manifest.holdout.rows == 24
    assert manifest.holdout.after["strict_format"]["total"] == 24
    assert set(manifest.rewards) == set(yaml.safe_load(folder.config.read_text())["rewards"])
    assert {p.name for p in folder.adapter.iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert folder.curves.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [row["step"] for row in steps(finished)] == list(range(7))
    samples = (finished / "completions" / "step-00006.jsonl").read_text().splitlines()
    assert set(json.loads(samples[0])) == {
        *("step", "id", "question", "gold", "completion", "scores"),
        *("strict_correct", "lenient_correct", "note"),
    }
    items = (folder.holdout / "items.jsonl").read_text().splitlines()
    assert len(items) == 24
    assert "####" in json.loads(items[0])["answer"]
    resolved = json.loads((finished / "resolved.json").read_text(encoding="utf-8"))
    assert resolved["grpo"]["max_steps"] == 6
    assert resolved["lora"]["r"] == 4


def test_draws_in_8_bits_are_corrected_and_the_exam_is_of_what_is_kept(
    finished: Path, runs: Path, quick_config: QuickConfig
) -> None:
    root = runs / "in-8-bits"
    assert train(quick_config(rollout_weights="int8", grpo__max_steps=2), root, quiet()) == 0
    assert read_manifest(RunFolder(root)).rollout == "graph, int8 weights"
    before = (RunFolder(one).holdout_before.read_text(encoding="utf-8") for one in (root, finished))
    assert len(set(before)) == 1
    difference, ratio = "sampling_logp_difference", "importance_sampling_ratio"
    for of_plain, of_int8 in zip(steps(finished)[1:], steps(root)[1:], strict=False):
        assert not any(name.startswith("sampling/") for name in of_plain)
        assert 0 < of_int8[f"sampling/{difference}/mean"] < 0.1
        assert of_int8[f"sampling/{ratio}/mean"] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        pytest.param(
            {"lora__init_lora_weights": "pissa", "grpo__beta": 0.04}, "not the base", id="reference"
        ),
        pytest.param({"lora__init_lora_weights": False}, "before the first step", id="baseline"),
    ],
)
def test_a_run_that_would_not_begin_at_the_base_ends_before_the_baseline(
    monkeypatch: pytest.MonkeyPatch,
    runs: Path,
    quick_config: QuickConfig,
    settings: dict[str, Any],
    part: str,
) -> None:
    # as if nobody knew the initialisation by its name
    early = importlib.import_module("xmlgrpo_trainer.config.early_check")
    monkeypatch.setattr(early, "check_beginning", lambda _config: None)
    root = runs / f"begins-{part.replace(' ', '-')}"
    with pytest.raises(UserError, match=part):
        train(quick_config(**settings), root, quiet())
    assert not RunFolder(root).holdout_before.exists()


def test_a_rate_that_destroys_the_model_is_named_and_stopped_before_a_quarter(
    runs: Path, tiny_base: Path, quick_config: QuickConfig
) -> None:
    root, shown = runs / "ruinous", io.StringIO()
    config = quick_config(
        grpo__max_steps=100,
        grpo__learning_rate=0.1,
        holdout__every=10,
        watch__stop_when=["entropy-rising", "replies-cut", "one-answer", "loops", "right-falling"],
    )
    assert train(config, root, Console(file=shown, width=200)) == EXIT_LOST
    manifest = read_manifest(RunFolder(root))
    assert manifest.steps < 25
    assert manifest.best_step in (10, 20, manifest.steps)
    assert shown.getvalue().count(f"stopped as lost at step {manifest.steps}, ") == 1
    assert "  doctor: " in shown.getvalue()
    assert train(config, root, quiet()) == EXIT_LOST


def test_the_adapter_was_trained(finished: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(finished / "adapter" / "adapter_model.safetensors")
    ups = [tensor for name, tensor in weights.items() if "lora_B" in name]
    assert len(ups) == 3 * 7  # layers x projections
    assert all(bool((tensor != 0).any()) for tensor in ups)


def test_the_adapter_answers_on_its_base_as_it_did_in_training(
    finished: Path, tiny_base: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from xmlgrpo_rewards.task import get_task
    from xmlgrpo_rollout.stop_tokens import stop_ids
    from xmlgrpo_trainer.problems.prompts import encode_prompts

    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, finished / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(finished / "adapter")
    stored = json.loads((finished / "holdout" / "report-after.json").read_text())
    for item in stored["items"][:6]:
        [ids] = encode_prompts(tokenizer, [get_task("gsm8k").messages(item["question"])])
        out = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=24,
            do_sample=False,
            eos_token_id=stop_ids(model, tokenizer),
        )
        assert tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True) == item["reply"]


def test_a_finished_run_is_shown_not_trained_again(
    finished: Path, quick_config: QuickConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "manifest.json").stat().st_mtime_ns
    assert train(quick_config(), finished, Console(width=120)) == 0
    shown = capsys.readouterr().out
    assert "is finished; nothing to train" in shown
    assert "lenient accuracy" in shown
    assert (finished / "manifest.json").stat().st_mtime_ns == before


def test_a_run_killed_after_its_last_checkpoint_trains_no_step_more(
    finished: Path, runs: Path, quick_config: QuickConfig
) -> None:
    root = runs / "killed-at-the-end"
    shutil.copytree(finished, root)
    (root / "manifest.json").unlink()
    shutil.rmtree(root / "adapter")
    assert train(quick_config(), root, quiet()) == 0
    assert read_manifest(RunFolder(root)).steps == 6
    assert steps(root) == steps(finished)
    ours, theirs = (
        (where / "holdout" / "report-after.json").read_text() for where in (root, finished)
    )
    assert ours == theirs


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_not_damaged(
    finished: Path, runs: Path, quick_config: QuickConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    root = runs / "damaged-checkpoints"
    shutil.copytree(finished, root)
    (root / "manifest.json").unlink()
    shutil.rmtree(root / "adapter")
    checkpoints = root / "checkpoints"
    flip(checkpoints / "checkpoint-6" / "adapter_model.safetensors")
    assert train(quick_config(), root, Console(width=400)) == 0
    shown = capsys.readouterr().out
    assert "checkpoint-6/adapter_model.safetensors is damaged or was changed" in shown
    assert "continuing from checkpoint-4" in shown
    assert (checkpoints / "damaged-checkpoint-6").is_dir()
    assert steps(root) == steps(finished)
    for name in ("adapter/adapter_model.safetensors", "holdout/report-after.json"):
        assert (root / name).read_bytes() == (finished / name).read_bytes()


def test_generate_and_graph_give_the_same_greedy_baseline(
    finished: Path, runs: Path, quick_config: QuickConfig
) -> None:
    root = runs / "generate"
    assert train(quick_config(rollout="generate", grpo__max_steps=2), root, quiet()) == 0
    ours, theirs = (
        json.loads((where / "holdout" / "report-before.json").read_text())
        for where in (finished, root)
    )
    assert ours == theirs


SIGNALLED = """
import os
from xmlgrpo_trainer.resume.stopping import StepStart

begin = StepStart.on_step_begin

def begin_the_third_as_the_last(self, args, state, control, **more):
    begin(self, args, state, control, **more)
    if state.global_step == 2:
        os.kill(os.getpid(), {number})

StepStart.on_step_begin = begin_the_third_as_the_last
"""


@pytest.fixture
def config_file(tmp_path: Path, quick_config: QuickConfig) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(quick_config().model_dump()))
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_step_for_step_as_if_never_stopped(
    finished: Path, runs: Path, config_file: Path, quick_config: QuickConfig, number: signal.Signals
) -> None:
    root = runs / f"stopped-{number.name}"
    words = ("xmlgrpo-train", "--config", config_file, "--run", root)
    ended = forked.run(words, root.parent, before=SIGNALLED.format(number=int(number)))
    assert ended.returncode == (-9 if number == signal.SIGKILL else 128 + number), ended.stderr
    assert not (root / "manifest.json").exists()
    if number != signal.SIGKILL:
        assert (root / "checkpoints" / "checkpoint-3" / "complete.json").is_file()
    assert train(quick_config(), root, quiet()) == 0
    assert steps(root) == steps(finished)
    for name in ("report-before.json", "report-after.json", "validation-00006.json"):
        ours, theirs = ((where / "holdout" / name).read_text() for where in (root, finished))
        assert ours == theirs


def test_a_reward_that_fails_loses_nothing(
    finished: Path, runs: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmlgrpo_rewards import int_reward_func as healthy

    calls = []

    def fails_at_the_fourth(**columns: Any) -> list[float]:
        calls.append(columns)
        if len(calls) == 4:
            raise ZeroDivisionError("the gold is 0")
        return healthy(**columns)

    root = runs / "failing-reward"
    with monkeypatch.context() as patched:
        patched.setitem(TOTAL.CLASSIC, "int_reward_func", fails_at_the_fourth)
        with pytest.raises(
            UserError, match=r"at step 4 the reward 'int_reward_func' raised ZeroDivision"
        ) as e:
            train(quick_config(), root, quiet())
    assert "Step 3 is saved" in str(e.value)
    assert train(quick_config(), root, quiet()) == 0
    assert steps(root) == steps(finished)


def test_group_advantages_are_what_the_paper_says(
    runs: Path, quick_config: QuickConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards 1, 2, 3, 6 in a group: mean 3, sample deviation sqrt(14/3) = 2.1602.

    (DeepSeekMath, arXiv 2402.03300, section 4.1.2: advantage = (reward - mean) / deviation; trl
    adds 1e-4 to the deviation.)
    """
    from xmlgrpo_trainer import fit as fit_module
    from xmlgrpo_trainer.grpo.trainer import build_trainer

    def four_scores(completions: list[Any], **_: Any) -> list[float]:
        return [1.0, 2.0, 3.0, 6.0] * (len(completions) // 4)

    seen: list[float] = []
    build = build_trainer

    def building(**parts: Any) -> Any:
        trainer = build(**parts)
        score = trainer._generate_and_score_completions

        def scoring(inputs: Any) -> Any:
            scored = score(inputs)
            seen.extend(scored["advantages"].tolist())
            return scored

        trainer._generate_and_score_completions = scoring
        return trainer

    monkeypatch.setitem(TOTAL.CLASSIC, "mine", four_scores)
    monkeypatch.setattr(fit_module, "build_trainer", building)
    config = quick_config(rewards={"mine": 1.0}, grpo__max_steps=1, holdout__every=1)
    assert train(config, runs / "advantages", quiet()) == 0
    expected = [-0.92578, -0.46289, 0.0, 1.38867] * 4
    assert seen == pytest.approx(expected, abs=1e-3)


def test_a_run_with_the_engines_weights_learns_the_same(
    finished: Path, runs: Path, quick_config: QuickConfig
) -> None:
    root = runs / "merged-pass"
    config = quick_config(packed_rows=True, merged_pass=True, fetch_once=True)
    assert train(config, root, quiet()) == 0
    for one, other in zip(steps(root), steps(finished), strict=True):
        for name in one.keys() & {"loss", "grad_norm", "reward", "holdout/strict"}:
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), (one["step"], name)


def test_merged_weights_are_asked_of_an_engine_that_has_none(
    monkeypatch: pytest.MonkeyPatch, runs: Path, quick_config: QuickConfig
) -> None:
    monkeypatch.setattr("xmlgrpo_rollout.choice.why_not_read", lambda _model: "it is not known")
    config = quick_config(rollout="auto", packed_rows=True, merged_pass=True)
    with pytest.raises(UserError, match=r"merged_pass: expected rollout graph.*got generate"):
        train(config, runs / "no-merged-weights", quiet())

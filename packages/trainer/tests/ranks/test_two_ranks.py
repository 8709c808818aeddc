"""Two processes on the CPU: the run of one, written once, stopped and continued together."""

import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import forked
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import read_manifest
from xmlgrpo_run.metrics import read_log
from xmlgrpo_trainer.config.run_config import RunConfig
from xmlgrpo_trainer.train import train

pytestmark = pytest.mark.slow

QuickConfig = Callable[..., RunConfig]
WHOLE = {"watch__samples_kept": 16}  # every completion of a step is kept
CLOCK = {"time", "step_time", "rollout_time", "train_runtime", "peak_mib"}
PAYS = """
import os

calls = 0


def pays(completions, **columns):
    global calls
    calls += 1
    if os.environ.get("RANK") == os.environ.get("FAILS_ON") and calls == 4:
        raise ZeroDivisionError("the gold is 0")
    return [float(len(str(completion)) % 7) for completion in completions]
"""
SIGNALLED = """
import os, signal, time
from xmlgrpo_trainer.resume.stopping import StopAndSave

end = StopAndSave.on_step_end

def signal_the_launcher_first(self, args, state, control, **more):
    if state.global_step == 1 and os.environ["RANK"] == "0":
        os.kill(os.getppid(), signal.SIGTERM)
        while self.signals.received is None:  # until it hands the signal on
            time.sleep(0.01)
    end(self, args, state, control, **more)

StopAndSave.on_step_end = signal_the_launcher_first
"""


def command(root: Path, config: RunConfig) -> list[str]:
    """The command line that trains `config` into `root` with two processes."""
    path = root.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config.model_dump()))
    return ["xmlgrpo-train", "--config", str(path), "--run", str(root), "--gpus", "2"]


def run_two(
    root: Path, config: RunConfig, *, before: str = forked.FORK_RANKS, **environment: str
) -> "subprocess.CompletedProcess[str]":
    own = {**os.environ, **environment}
    return forked.run(command(root, config), root.parent, environment=own, before=before)


def rows(root: Path) -> list[dict[str, Any]]:
    found = read_log(root / "metrics.jsonl").rows.values()
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in found]


def samples(root: Path, step: int) -> list[dict[str, Any]]:
    text = (root / "completions" / f"step-{step:05d}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def holdout(root: Path, name: str) -> str:
    return (root / "holdout" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def one(runs: Path, tiny_base: Path, quick_config: QuickConfig) -> Path:
    root = runs / "one-process"
    assert train(quick_config(**WHOLE), root, Console(quiet=True)) == 0
    return root


@pytest.fixture(scope="module")
def two(runs: Path, tiny_base: Path, quick_config: QuickConfig) -> Path:
    root = runs / "two-processes"
    ended = run_two(root, quick_config(**WHOLE))
    (root / "screen.txt").write_text(ended.stdout, encoding="utf-8")
    assert (ended.returncode, ended.stderr) == (0, "")
    return root


def test_two_processes_train_on_the_batches_of_one(one: Path, two: Path) -> None:
    assert [row["step"] for row in rows(two)] == [row["step"] for row in rows(one)]
    for step in range(1, 7):
        ours, theirs = ([row["question"] for row in samples(root, step)] for root in (two, one))
        assert ours == theirs
        assert len(ours) == 16


def test_held_out_problems_before_training_are_answered_alike(one: Path, two: Path) -> None:
    for name in ("report-before.json", "validation-00000.json", "items.jsonl"):
        assert holdout(two, name) == holdout(one, name)


def test_what_is_logged_is_of_the_whole_batch(two: Path) -> None:
    for row in rows(two)[1:]:
        kept = samples(two, row["step"])
        totals = [sum(sample["scores"].values()) for sample in kept]
        assert row["reward"] == pytest.approx(sum(totals) / 16, abs=1e-5)
        assert all(math.isfinite(row[name]) for name in ("loss", "grad_norm", "reward_std"))
        grown = row["num_tokens"]
        assert grown > 16 * row["completions/mean_length"]


def test_the_learning_curve_is_that_of_one_process_within_noise(one: Path, two: Path) -> None:
    """Six steps of 16 completions: means within three standard errors of their difference."""
    spread, means = [], []
    for root in (one, two):
        totals = [
            sum(sample["scores"].values()) for step in range(1, 7) for sample in samples(root, step)
        ]
        mean = sum(totals) / len(totals)
        means.append(mean)
        spread.append(sum((t - mean) ** 2 for t in totals) / (len(totals) - 1) / len(totals))
    assert abs(means[0] - means[1]) < 3 * math.sqrt(sum(spread))


def test_packed_rows_learn_the_same(runs: Path, two: Path, quick_config: QuickConfig) -> None:
    """Also where one process has more completions without advantage than the other."""
    root = runs / "two-packed"
    ended = run_two(root, quick_config(**WHOLE, packed_rows=True))
    assert (ended.returncode, ended.stderr) == (0, "")
    learnt = [[row for row in rows(of) if "loss" in row] for of in (root, two)]
    assert len(learnt[0]) == 6
    for packed, padded in zip(*learnt, strict=True):
        for name in ("loss", "grad_norm", "reward"):
            assert packed[name] == pytest.approx(padded[name], rel=1e-3, abs=1e-6), name


def test_one_process_writes_and_reports(two: Path) -> None:
    screen = (two / "screen.txt").read_text(encoding="utf-8")
    assert "2 share the configuration's batch: 8 completions x 1 backward pass" in screen
    for words in ("step 1/6", "baseline on", "validation at step 6", "run folder   "):
        assert screen.count(words) == 1
    manifest = read_manifest(RunFolder(two))
    assert manifest.hardware["processes"] == 2
    assert manifest.steps == 6
    written = (two / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(written) == 6 + 3  # steps and validations, each once


def test_another_number_of_processes_does_not_continue_a_run(
    runs: Path, two: Path, quick_config: QuickConfig
) -> None:
    manifest = two / "manifest.json"
    aside = manifest.rename(two / "manifest.aside")
    with pytest.raises(UserError, match="processes: '2' there, '1' here"):
        train(quick_config(**WHOLE), two, Console(quiet=True))
    aside.rename(manifest)


def test_a_stopped_run_goes_on_as_if_never_stopped(
    runs: Path, two: Path, quick_config: QuickConfig
) -> None:
    root, config = runs / "two-stopped", quick_config(**WHOLE)
    ended = run_two(root, config, before=f"{forked.FORK_RANKS}\n{SIGNALLED}")
    assert ended.returncode == 128 + signal.SIGTERM
    shown = "finishing this step, then saving; a second signal stops at once"
    assert ended.stderr.strip() == shown
    assert not (root / "manifest.json").exists()
    checkpoint = root / "checkpoints/checkpoint-1/complete.json"
    listed = json.loads(checkpoint.read_text())["files"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(listed)
    assert run_two(root, config).returncode == 0
    assert rows(root) == rows(two)
    assert holdout(root, "report-after.json") == holdout(two, "report-after.json")


@dataclass(frozen=True)
class Failed:
    """A run that ended with an error: its folder, and how it ended."""

    root: Path
    ended: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def failed(
    runs: Path, tiny_base: Path, quick_config: QuickConfig, tmp_path_factory: pytest.TempPathFactory
) -> Failed:
    """By the other engine, 12 completions in groups of 4; the second's reward fails at step 4."""
    code = tmp_path_factory.mktemp("rewards")
    (code / "own_rewards.py").write_text(PAYS)
    path = os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])
    changes = {"rewards": {"own_rewards:pays": 1.0}, "grpo__per_device_train_batch_size": 12}
    root = runs / "two-failing"
    config = quick_config(**WHOLE, **changes, rollout="generate")
    # these two processes are new Pythons, as the launcher starts them for people
    return Failed(root, run_two(root, config, before="", PYTHONPATH=path, FAILS_ON="1"))


def test_a_reward_that_fails_on_one_ends_all_with_one_message(failed: Failed) -> None:
    assert failed.ended.returncode == 2
    [line] = failed.ended.stderr.splitlines()
    assert line.startswith("error: at step 4 the reward 'own_rewards:pays' raised ZeroDivis")
    assert "Step 3 is saved" in line
    assert (failed.root / "checkpoints" / "checkpoint-3" / "complete.json").is_file()


def test_groups_cut_between_processes_and_the_other_engine(one: Path, failed: Failed) -> None:
    """Each process completes one group and a half."""
    assert "rollout    generate (asked for)" in failed.ended.stdout
    assert holdout(failed.root, "report-before.json") == holdout(one, "report-before.json")
    for step in (1, 2, 3):
        asked = [sample["question"] for sample in samples(failed.root, step)]
        assert [asked.count(question) for question in dict.fromkeys(asked)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"grpo__per_device_train_batch_size": 15, "grpo__num_generations": 5},
            "cannot be shared equally by 2",
            id="batch",
        ),
        pytest.param({"model__name": "./gone"}, "/gone'", id="found-later"),
    ],
)
def test_what_cannot_run_is_said_once(
    changes: dict[str, Any], words: str, tmp_path: Path, quick_config: QuickConfig
) -> None:
    ended = run_two(tmp_path / "run", quick_config(**changes))
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line

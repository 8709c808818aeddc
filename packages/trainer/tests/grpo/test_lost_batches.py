"""Batches that teach nothing are named, in a running training and in a finished one."""

import gzip
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import TrainerControl

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rollout.engine import Completion
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.metrics import MetricsLog, read_log
from xmlgrpo_trainer.config.run_config import RunConfig, WatchConfig
from xmlgrpo_trainer.doctor.run import check_run
from xmlgrpo_trainer.grpo.lost_batches import (
    DIFFERENCE,
    DISCARDED,
    IMPOSSIBLE_FIRST,
    RATIO,
    LostBatchesError,
    LostBatchGuard,
    why_lost,
)
from xmlgrpo_trainer.grpo.mismatch import importance_ratio, lost_shares
from xmlgrpo_trainer.reporting.steps import Watch
from xmlgrpo_trainer.reporting.trackers import Trackers
from xmlgrpo_trainer.train import train

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOST = [22, 35, 67, 88, 112, 118, 151, 175, 198]  # found by looking at the replies
REAL = [
    pytest.param("collapse-lr2e-4", LOST, id="collapsed"),
    pytest.param("lr3e-5", LOST, id="nine-lost"),
    pytest.param("lr5e-5", [], id="sound"),
]


def real_log(name: str, folder: Path) -> MetricsLog:
    path = folder / "metrics.jsonl"
    path.write_bytes(gzip.decompress((FIXTURES / f"{name}.metrics.jsonl.gz").read_bytes()))
    return read_log(path)


@pytest.mark.parametrize(("name", "expected"), REAL)
def test_lost_batches_of_real_runs(name: str, expected: list[int], tmp_path: Path) -> None:
    log = real_log(name, tmp_path)
    assert [step for step, row in log.rows.items() if why_lost(row)] == expected
    [finding] = [one for one in check_run(log) if one.what == "batches"]
    assert finding.level == ("bad" if expected else "ok")
    if expected:
        assert "9 of 200 were lost (steps 22, 35, 67, 88, 112" in finding.text
    else:
        assert "none of 200" in finding.text


@pytest.mark.parametrize(("name", "expected"), REAL)
def test_a_real_run_stops_at_its_second_lost_batch(
    name: str, expected: list[int], tmp_path: Path
) -> None:
    guard = LostBatchGuard()
    lost = [
        (step, why) for step, row in real_log(name, tmp_path).rows.items() if (why := why_lost(row))
    ]
    assert len(lost) == len(expected)
    for step, why in lost[:1]:
        guard.note(step, why)
    for step, why in lost[1:2]:
        with pytest.raises(LostBatchesError, match="steps 22, 35"):
            guard.note(step, why)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param({}, None, id="an-engine-that-is-the-policy-logs-nothing"),
        pytest.param({f"{RATIO}/mean": 0.85, f"{DIFFERENCE}/max": 7.9}, None, id="16-bits"),
        pytest.param({f"{RATIO}/mean": 0.2}, "ratio is 0.2 instead", id="trls-own-metrics"),
        pytest.param(
            {f"{RATIO}/mean": 1.0, f"{DIFFERENCE}/max": 41.0}, "(41 nats)", id="truncated-by-token"
        ),
        pytest.param(
            {DISCARDED: 0.01, IMPOSSIBLE_FIRST: 0.0, f"{RATIO}/mean": 1.0, f"{DIFFERENCE}/max": 41},
            None,
            id="one-token-of-one-completion",
        ),
        pytest.param({DISCARDED: 0.05, IMPOSSIBLE_FIRST: 0.02}, None, id="a-few"),
        pytest.param({DISCARDED: 0.4}, "40% of the completions were discarded", id="discarded"),
        pytest.param({IMPOSSIBLE_FIRST: 1.0}, "100% begin with a token", id="first-tokens"),
        pytest.param({DISCARDED: 3 / 32}, None, id="three-of-32-discarded"),
        pytest.param({DISCARDED: 4 / 32}, "12% of the completions", id="four-of-32-discarded"),
        pytest.param({IMPOSSIBLE_FIRST: 1 / 32}, None, id="one-first-token-of-32"),
        pytest.param({IMPOSSIBLE_FIRST: 2 / 32}, "6% begin with", id="two-first-tokens-of-32"),
        pytest.param({f"{RATIO}/mean": 0.55}, None, id="a-ratio-above-half"),
        pytest.param({f"{RATIO}/mean": 0.45}, "ratio is 0.45", id="a-ratio-below-half"),
        pytest.param({f"{DIFFERENCE}/max": 19.0}, None, id="a-far-token"),
        pytest.param({f"{DIFFERENCE}/max": 21.0}, "(21 nats)", id="an-impossible-token"),
        pytest.param({DISCARDED: None, f"{RATIO}/mean": float("nan")}, None, id="not-a-number"),
        pytest.param({DISCARDED: True}, None, id="not-a-share"),
    ],
)
def test_what_a_row_says(row: dict[str, Any], words: str | None) -> None:
    reason = why_lost(row)
    assert reason is None if words is None else reason is not None and words in reason


def test_one_lost_batch_is_an_accident_and_two_far_apart_are_too() -> None:
    guard = LostBatchGuard()
    for step in (5, 105, 205):
        guard.note(step, "why")
    with pytest.raises(LostBatchesError, match=r"2 batches .*steps 205, 304.*why.*generate"):
        guard.note(304, "why")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # a far sequence is masked, one that begins with an impossible token weighs e^-30
        pytest.param("sequence_mask", [0.4, 0.2], id="sequence"),
        # of tokens' ratios only the far ones are 0, and each completion has a near one
        pytest.param("token_mask", [0.0, 0.2], id="token"),
    ],
)
def test_shares_of_a_batch(mode: str, expected: list[float]) -> None:
    difference = torch.tensor(
        [
            [0.0, 0.1, 9.0],
            [-30.0, 0.0, 0.0],
            [2.0, 0.5, 0.1],
            [0.0, torch.nan, 0.1],
            [-0.7, 0.0, 0.0],
        ]
    )
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]])
    ratio = importance_ratio(difference, mask, mode, None, 3.0)
    found = lost_shares(difference, ratio, mask, 5)
    assert found.tolist() == pytest.approx(expected)
    # of twenty, fifteen had no advantage
    found = lost_shares(difference, ratio, mask, 20)
    assert found.tolist() == pytest.approx([share / 4 for share in expected])


@pytest.mark.parametrize("mode", ["sequence_mask", "token_truncate"])
def test_completions_that_are_masked_since_they_were_cut_lose_no_batch(mode: str) -> None:
    difference, mask = torch.zeros(4, 3), torch.tensor([[1, 1, 1], *[[0, 0, 0]] * 3])
    ratio = importance_ratio(difference, mask, mode, None, 3.0)
    assert lost_shares(difference, ratio, mask, 4).tolist() == [0, 0]


LOST_STEP = {"loss": 0.0, "grad_norm": 0.0, "reward": 0.9, IMPOSSIBLE_FIRST: 1.0}


def watch_of(root: Path, out: io.StringIO, *, stops: bool) -> Watch:
    config = WatchConfig(samples_kept=0, samples_every=1000, stop_on_lost_batches=stops)
    console = Console(file=out, width=118)
    folder = RunFolder(root)
    nobody = Trackers(RunConfig(), folder)
    made = Watch(folder, get_task("gsm8k"), [], config, console, trackers=nobody)
    made.on_train_begin(None, SimpleNamespace(global_step=0, max_steps=40), None)
    return made


@pytest.mark.parametrize("stops", [True, False])
def test_a_running_training_names_them_and_stops_unless_the_configuration_says_no(
    tmp_path: Path, *, stops: bool
) -> None:
    out = io.StringIO()
    watch = watch_of(tmp_path, out, stops=stops)

    def step(number: int) -> None:
        state: Any = SimpleNamespace(global_step=number, max_steps=40)
        watch.on_step_begin(None, state, None)
        watch.on_log(None, state, TrainerControl(), logs=dict(LOST_STEP))

    step(3)
    assert "batch lost: 100% begin with a token that the policy finds impossible" in out.getvalue()
    if stops:
        with pytest.raises(LostBatchesError, match="steps 3, 4"):
            step(4)
    else:
        step(4)
    assert set(read_log(tmp_path / "metrics.jsonl").rows) == {3, 4}  # the last one is kept, too


class Astray:
    """The engine, but it says of each first token that it was 40 nats likelier than it was."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def refresh(self) -> None:
        self.inner.refresh()

    def __call__(self, prompts: Any, samples: int, sampling: Any) -> list[Completion]:
        found = self.inner(prompts, samples, sampling)
        return [
            Completion(drawn.tokens, [40.0] + [-1.0] * (len(drawn.tokens) - 1)) for drawn in found
        ]


@pytest.mark.slow
def test_a_run_whose_engine_is_astray_stops_and_goes_on_when_asked_to(
    runs: Path, tiny_base: Path, quick_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmlgrpo_rollout.choice import choose_engine
    from xmlgrpo_trainer import fit

    def astray(*arguments: Any, **settings: Any) -> Any:
        choice = choose_engine(*arguments, **settings)
        return replace(choice, engine=Astray(choice.engine), rounds=True)

    monkeypatch.setattr(fit, "choose_engine", astray)
    root, out = runs / "astray", io.StringIO()
    with pytest.raises(UserError, match=r"2 batches .*steps 1, 2.*rollout=generate.*Step 2 is sav"):
        train(quick_config(), root, Console(file=out, width=118))
    assert out.getvalue().count("batch lost: 100% begin with a token") == 2
    rows = read_log(root / "metrics.jsonl").rows
    assert (rows[1][DISCARDED], rows[1][IMPOSSIBLE_FIRST]) == (1.0, 1.0)
    out = io.StringIO()
    on = quick_config(watch__stop_on_lost_batches=False)
    assert train(on, root, Console(file=out, width=118)) == 0
    assert "continuing from checkpoint-2" in out.getvalue()

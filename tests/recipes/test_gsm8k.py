"""The GSM8K experiment of recipes/gsm8k on real weights: its rows, its reward, its stages."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.hacks import HACKS
from xmlgrpo_rewards.reply import render
from xmlgrpo_rewards.task import Example, get_task
from xmlgrpo_rewards.total import load_rewards, score
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.measures.sums import written_sums
from xmlgrpo_trainer.config.batch import check_groups
from xmlgrpo_trainer.config.library_fields import check_grpo, check_lora
from xmlgrpo_trainer.config.run_config import load_config
from xmlgrpo_trainer.problems.pass_rates import read_pass_rates

ROOT = Path(__file__).resolve().parents[2]
REWARDS = ROOT / "recipes" / "gsm8k" / "rewards"
CLIPS = {
    "question": "Ann sold 48 clips in April, and half as many in May. How many in all?",
    "answer": "In May 48/2 = <<48/2=24>>24.\nIn all 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The experiment's modules; its rewards are found as its configuration names them."""
    sys.path.insert(0, str(REWARDS))
    from recipes.gsm8k import learn
    from recipes.gsm8k.answers import accuracy, answering, pass_rates, pick
    from recipes.gsm8k.data import renumber, rows
    from recipes.gsm8k.results import table
    from recipes.gsm8k.rewards import chain_reward, control_reward
    from recipes.gsm8k.stages import plan, runner, scale
    from recipes.gsm8k.weights import mean_adapter, warm_start

    yield SimpleNamespace(
        accuracy=accuracy,
        answering=answering,
        chain_reward=chain_reward,
        control_reward=control_reward,
        learn=learn,
        runner=runner,
        mean_adapter=mean_adapter,
        pick=pick,
        plan=plan,
        scale=scale,
        renumber=renumber,
        rows=rows,
        pass_rates=pass_rates,
        table=table,
        warm_start=warm_start,
    )
    sys.path.remove(str(REWARDS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("16 - 3 - 4 = 9 eggs", [(9, True)], id="plain"),
        pytest.param("5 red apples + 3 apples = 8 apples", [(8, True)], id="units"),
        pytest.param("8hrs x $20/hr = $160.", [(160, True)], id="rates"),
        pytest.param("$1,200 × 3 = $3,600", [(3600, True)], id="money"),
        pytest.param("17400*.10 = $3,000", [(3000, False)], id="false"),
        pytest.param("20% * 50 = 10", [(10, True)], id="per-cent-of"),
        pytest.param("100% - 20% = 80%", [(80, True)], id="per-cents"),
        pytest.param("2*(3+4) = 2*7 = 14", [(14, True), (14, True)], id="two-steps"),
        pytest.param("3+4 = 7-2 = 5", [(7, True), (5, True)], id="run-on"),
        pytest.param("1/4 + 1/4 = 1/2", [(Fraction(1, 2), True)], id="fraction"),
        pytest.param("10/3 = 3.33", [(Fraction("3.33"), True)], id="rounded"),
        pytest.param("10/3 = 3", [(3, False)], id="rounded-to-a-whole-number"),
        pytest.param("In 2010 5 + 3 = 9", [(9, False)], id="year-before"),
        pytest.param("3 - 5 = -2", [(-2, True)], id="negative"),
        pytest.param("x = 5, 2(3+4)=14, 10 - five + 3 - 1 = 7, 4/0 = 1", [], id="not-read"),
        pytest.param("no sum at all", [], id="none"),
    ],
)
def test_written_sums_are_read(scripts: Any, text: str, expected: list[Any]) -> None:
    found = [(sum_.result, sum_.holds) for sum_ in written_sums(text)]
    assert found == expected


@pytest.mark.timeout(60)  # quadratic ones would take hours
def test_hostile_texts_cost_no_time(scripts: Any) -> None:
    texts = [hack.reply for hack in HACKS]
    texts += ["=" * 100_000, "1+" * 50_000 + "=3", "(" * 50_000 + "=1", "5 apples " * 9_000 + "= 4"]
    for text in texts:
        written_sums(text)


def test_the_solutions_of_gsm8k_are_true_chains(scripts: Any, gsm8k_dir: Path) -> None:
    task, right, read = get_task("gsm8k"), 0, 0
    rows = scripts.rows.load(gsm8k_dir / "train.jsonl")[:1000]
    for number, row in enumerate(rows):
        example = task.example(row, str(number))
        right += scripts.chain_reward.is_shown(render(example.solution, example.gold), example.gold)
        read += bool(written_sums(example.solution))
    assert right > 0.92 * len(rows)
    assert read > 0.96 * len(rows)


@pytest.mark.parametrize(
    ("reply", "paid"),
    [
        pytest.param(render("48/2 = 24\n48 + 24 = 72", "72"), 2.0, id="shown"),
        pytest.param(render("48/2 = 20\n48 + 24 = 72", "72"), 0.5, id="a-false-sum"),
        pytest.param(render("48/2 = 24", "72"), 0.5, id="leads-elsewhere"),
        pytest.param(render("It is 72.", "72"), 0.5, id="no-sum"),
        pytest.param(render("48/2 = 24\n48 + 24 = 72", "70"), 0.0, id="wrong"),
        pytest.param("72", 0.0, id="no-form"),
    ],
)
def test_a_guess_pays_a_quarter(scripts: Any, reply: str, paid: float) -> None:
    [reward] = load_rewards({"chain_reward:correct_by_true_sums": 1.0})
    assert score(reward, [reply], prompts=["?"], answer=["72"], other=[1]) == [paid]


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        pytest.param(render("48/2 = 24\n48 + 24 = 72", "72"), 1.0, id="all"),
        pytest.param(render("In May 48/2 = 24\n48 - 24 = 24", "24"), 0.5, id="the-first"),
        pytest.param(render("48 + 24 = 72", "72"), 0.0, id="not-the-first"),
        pytest.param(render("48/2 = 20\n48 + 24 = 72", "72"), 0.0, id="a-false-sum"),
        pytest.param("48/2 = 24", 0.0, id="no-form"),
    ],
)
def test_steps_are_paid_in_their_order(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str, share: float
) -> None:
    [reward] = load_rewards({"chain_reward:steps_met": 1.0})
    prompts = [get_task("gsm8k").messages(CLIPS["question"])]
    monkeypatch.setenv(scripts.chain_reward.ROWS, str(tmp_path / "grpo.jsonl"))
    scripts.rows.save(tmp_path / "grpo.jsonl", [CLIPS])
    assert score(reward, [reply], prompts=prompts, answer=["72"]) == [share]
    monkeypatch.delenv(scripts.chain_reward.ROWS)
    with pytest.raises(UserError, match="environment variable GSM8K_ROWS"):
        score(reward, [reply], prompts=prompts, answer=["72"])


class TestRetellings:
    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            pytest.param(
                "Tom has 17 jars at 3 dollars and 20 cups.",
                "He pays 17*3 = 51 dollars.\nWith cups 51+20 = <<51+20=71>>71.\n#### 71",
                id="a-result-without-a-note",
            ),
            pytest.param(
                CLIPS["question"], CLIPS["answer"].replace("48/2 =", "48/2 = 25 or"), id="false-sum"
            ),
        ],
    )
    def test_stories_that_cannot_be_told_rightly(
        self, scripts: Any, question: str, answer: str
    ) -> None:
        assert scripts.renumber.read_story({"question": question, "answer": answer}) is None

    def test_a_number_that_is_also_a_per_cent_stays(self, scripts: Any) -> None:
        row = {
            "question": "Of 20 men and 45 women, 20% sing. How many?",
            "answer": "20+45 = <<20+45=65>>65, 65*20/100 = <<65*20/100=13>>13.\n#### 13",
        }
        assert scripts.renumber.read_story(row).free == (45,)

    def test_a_result_that_is_also_a_constant_is_not_told_for_both(self, scripts: Any) -> None:
        row = {
            "question": "A costs $125 less 8%, B costs $130 less 10%. How much cheaper is A?",
            "answer": "A is $125*8/100 = $<<125*8/100=10>>10 less: $125-$10 = $<<125-10=115>>115.\n"
            "B is $130*10/100 = $<<130*10/100=13>>13 less: $130-$13 = $<<130-13=117>>117.\n"
            "So $117-$115 = $<<117-115=2>>2.\n#### 2",
        }
        story = scripts.renumber.read_story(row)
        for seed in range(200):
            told = scripts.renumber._told(
                story, {old: scripts.renumber._other(old, dice(seed)) for old in story.free}
            )
            assert told is None or "*10/100" in told["answer"]

    def test_they_differ_and_come_again_the_same(self, scripts: Any) -> None:
        told = scripts.rows.retellings({**CLIPS, "story": 5}, wanted=12)
        assert told == scripts.rows.retellings({**CLIPS, "story": 5}, wanted=12)
        assert len({row["question"] for row in told} | {CLIPS["question"]}) == 13
        assert all(row["story"] == 5 for row in told)


def dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret depends on it


def clips(story: int) -> dict[str, Any]:
    return {
        "question": CLIPS["question"].replace("Ann", f"Ann-{'n' * story}"),
        "answer": CLIPS["answer"],
        "story": story,
    }


def test_no_row_is_of_two_kinds(scripts: Any) -> None:
    """What is asked is never trained on, and the warm start sees no story of GRPO's."""
    rows = scripts.rows
    files = rows.make_rows(
        [clips(story) for story in range(12)], each=3, validation_retold=5, processes=1
    )
    assert {name: len(kept) for name, kept in files.items()} == {
        rows.PLAIN: 5,
        rows.RETOLD: 15,
        rows.UNSEEN: 4,
        rows.POOL: 12,
        rows.SCREENED: 12,
        rows.VALIDATION: 3,
        rows.VALIDATION_RETOLD: 5,
    }
    stories = {name: {row["story"] for row in kept} for name, kept in files.items()}
    assert stories[rows.PLAIN] == stories[rows.RETOLD] == {0, 2, 4, 6, 8}
    assert stories[rows.UNSEEN] == stories[rows.POOL] == stories[rows.SCREENED] == {1, 3, 5, 7}
    assert stories[rows.VALIDATION] == stories[rows.VALIDATION_RETOLD] == {9, 10, 11}


@pytest.mark.parametrize("kept", [[], [clips(1), clips(2)]], ids=["none", "some"])
def test_rows_are_read_as_they_were_written(scripts: Any, tmp_path: Path, kept: Any) -> None:
    scripts.rows.save(tmp_path / "rows.jsonl", kept)
    assert scripts.rows.load(tmp_path / "rows.jsonl") == kept


def test_rows_for_grpo_have_their_storys_rate(scripts: Any, tmp_path: Path) -> None:
    shown = {1: 0, 2: 1, 3: 6, 4: 8}
    screened = [
        {**clips(story), "samples": 8, "right": 8, "shown": count, "reasonings": ["48 + 24 = 72"]}
        for story, count in shown.items()
    ]
    again = [{**clips(2), "question": f"Again {number}?"} for number in range(5)]
    rows = scripts.pass_rates.to_train_on(screened, [clips(2), *again, clips(5)], 3)
    assert [(row["story"], row["question"][:7], row["right"], row["asked"]) for row in rows] == [
        (1, "Ann-n s", 0, 8),
        (2, "Ann-nn ", 1, 8),
        (2, "Again 0", 0, 0),
        (2, "Again 1", 0, 0),
        (3, "Ann-nnn", 6, 8),
        (4, "Ann-nnn", 8, 8),
        (5, "Ann-nnn", 0, 0),
    ]
    assert scripts.pass_rates.stories_within(rows, 0.1, 0.8) == {2, 3}
    assert [row["question"] for row in scripts.pass_rates.to_ask_again(rows, 0.1, 0.5)] == [
        "Again 0?",
        "Again 1?",
    ]
    scripts.rows.save(tmp_path / "grpo.jsonl", rows)
    rates = read_pass_rates(tmp_path / "grpo.jsonl")
    assert len({rates[row["question"]].family for row in rows}) == 5
    own = list(scripts.pass_rates.own_solutions(screened[:1]))
    assert own == [{**clips(1), "answer": "48 + 24 = 72\n#### 72"}]
    assert get_task("gsm8k").example(own[0], "own").gold == "72"


def test_a_coin_pays_for_nothing_that_was_written(scripts: Any) -> None:
    [reward] = load_rewards({"control_reward:coin": 1.0})
    replies = [render("48 + 24 = 72", "72")] * 400
    paid = score(reward, replies, prompts=["?"] * 400, answer=["72"] * 400)
    assert set(paid) == {0.0, 2.0}
    assert 140 < sum(map(bool, paid)) < 260
    assert paid == score(reward, replies, prompts=["?"] * 400, answer=["72"] * 400)


def test_the_mean_of_adapters_is_the_nearest_of_their_rank(scripts: Any, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for number, folder in enumerate(folders):
        save_adapter(scripts, folder, seed=number)
    lost = scripts.mean_adapter.save_mean(folders, tmp_path / "mean")
    mean = torch.stack([change_by(scripts, folder) for folder in folders]).mean(dim=0)
    left, sizes, right = torch.linalg.svd(mean)
    nearest = left[:, :4] * sizes[:4] @ right[:4]
    torch.testing.assert_close(change_by(scripts, tmp_path / "mean"), nearest)
    assert lost == pytest.approx(float(sizes[4] ** 2 / sizes.square().sum()), rel=1e-3)


def test_the_mean_of_one_adapter_and_itself_is_that_adapter(scripts: Any, tmp_path: Path) -> None:
    save_adapter(scripts, tmp_path / "one", seed=0)
    lost = scripts.mean_adapter.save_mean([tmp_path / "one", tmp_path / "one"], tmp_path / "mean")
    assert lost == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(
        change_by(scripts, tmp_path / "mean"), change_by(scripts, tmp_path / "one")
    )


def test_a_projection_narrower_than_the_rank_keeps_the_ranks_shape(scripts: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    b_O_K = torch.randn(3, 8, generator=generator)
    a_K_I = torch.randn(8, 6, generator=generator)
    b_O_R, a_R_I, _ = scripts.mean_adapter.truncated(b_O_K, a_K_I, rank=4)
    assert (b_O_R.shape, a_R_I.shape) == ((3, 4), (4, 6))
    torch.testing.assert_close(b_O_R @ a_R_I, b_O_K @ a_K_I)


def save_adapter(scripts: Any, folder: Path, seed: int) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "layer.lora_A.weight": torch.randn(4, 6, generator=generator),
        "layer.lora_B.weight": torch.randn(5, 4, generator=generator),
    }
    save_file(weights, folder / scripts.mean_adapter.WEIGHTS)
    (folder / scripts.mean_adapter.CONFIG).write_text(json.dumps({"r": 4, "lora_alpha": 8}))


def change_by(scripts: Any, adapter: Path) -> Any:
    """What an adapter adds to the weights, but for its scale."""
    from safetensors.torch import load_file

    weights = load_file(adapter / scripts.mean_adapter.WEIGHTS)
    return weights["layer.lora_B.weight"] @ weights["layer.lora_A.weight"]


def save_checkpoint(folder: Path) -> None:
    from xmlgrpo_trainer.resume.checkpoints import STATE, seal

    folder.mkdir(parents=True)
    (folder / STATE).write_text("{}")
    seal(folder)


def answers(plain: int, retold: int) -> dict[str, Any]:
    return {"a": {"accuracy": {"hits": plain}}, "b": {"accuracy": {"hits": retold}}}


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        pytest.param({"last": answers(5, 5), "mean": answers(9, 0)}, "last", id="both-sets"),
        pytest.param({"last": answers(5, 5), "mean": answers(4, 7)}, "mean", id="best"),
        pytest.param({"last": answers(5, 5), "mean": answers(5, 5)}, "mean", id="the-later"),
    ],
)
def test_an_arm_is_its_best_by_validation(scripts: Any, found: Any, chosen: str) -> None:
    assert scripts.pick.best_of(found) == chosen


class TestArms:
    def experiment(self, scripts: Any, work: Path, *, last: bool = False) -> Any:
        return scripts.plan.Experiment(work, work, scripts.scale.GPU, last=last)

    def lanes(
        self, scripts: Any, work: Path, *names: str, last: bool = False
    ) -> list[tuple[int, list[str]]]:
        budget = scripts.plan.Budget(steps=10, arm_s=20.0, step_s=1.0)
        experiment = self.experiment(scripts, work, last=last)
        lanes = experiment.arms("s2", names, 2, budget, (), cut=False)
        return [(lane.gpu, [stage.name for stage in lane.stages]) for lane in lanes]

    def test_arms_take_turns(self, scripts: Any, tmp_path: Path) -> None:
        assert self.lanes(scripts, tmp_path, "grpo-0", "more-sft", "rejection") == [
            (
                0,
                ["grpo-0", "choice of grpo-0", "own solutions", "rejection", "choice of rejection"],
            ),
            (1, ["more-sft", "choice of more-sft"]),
        ]
        assert self.lanes(scripts, tmp_path, "grpo-0", last=True) == [(0, ["grpo-0"])]

    def test_rejection_takes_as_long_as_the_others(self, scripts: Any, tmp_path: Path) -> None:
        budget = scripts.plan.Budget(steps=100, arm_s=200.0, step_s=2.0)
        [lane] = self.experiment(scripts, tmp_path, last=True).arms(
            "s2", ["rejection"], 1, budget, (), cut=False
        )
        seconds = [stage.words[stage.words.index("--seconds") + 1] for stage in lane.stages]
        assert [float(one) for one in seconds] == [80, 120]

    def test_supervised_arms_take_the_seconds_of_a_run_that_is_finished(
        self, scripts: Any, tmp_path: Path
    ) -> None:
        experiment = self.experiment(scripts, tmp_path, last=True)
        assert experiment.run_s() is None
        run = RunFolder(tmp_path / "grpo-1")
        run.root.mkdir()
        rows = [
            {"step": 0},
            {"step": 1, "time": 100.0, "step_time": 2.5},
            {"step": 9, "time": 160.0},
        ]
        run.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        assert experiment.run_s() is None  # it is not finished
        run.manifest.touch()
        assert experiment.run_s() == 62.5
        arms = ["rejection", "grpo-1", "more-sft", "format-1"]
        assert scripts.learn.by_turn(arms) == [["grpo-1", "format-1"], ["rejection", "more-sft"]]

    def test_what_an_arm_has_come_to(self, scripts: Any, tmp_path: Path) -> None:
        checkpoint = tmp_path / "grpo-0" / "checkpoints" / "checkpoint-130"
        save_checkpoint(checkpoint)
        (tmp_path / "more-sft").mkdir()
        (tmp_path / "more-sft" / scripts.warm_start.DONE).write_text("{}")
        base, model = tmp_path / "s2", scripts.plan.Model
        last, chosen = (self.experiment(scripts, tmp_path, last=last) for last in (True, False))
        assert last.arm("s2", "s2") == chosen.arm("s2", "s2") == model(base)
        assert last.arm("s2", "grpo-0") == model(base, checkpoint)
        assert last.arm("s2", "more-sft") == model(tmp_path / "more-sft")
        assert last.arm("s2", "gone") is None
        assert chosen.arm("s2", "grpo-0") is chosen.arm("s2", "more-sft") is None
        told = {"model": str(base), "adapter": str(tmp_path / "grpo-0-chosen")}
        (tmp_path / "accuracy-grpo-0.json").write_text(json.dumps(told))
        assert chosen.arm("s2", "grpo-0") == model(base, tmp_path / "grpo-0-chosen")

    def test_the_test_keeps_both_gpus_busy(self, scripts: Any, tmp_path: Path) -> None:
        for name in (
            "grpo-0",
            "more-sft",
            "rejection",
        ):  # of a base that was named nothing is known
            (tmp_path / f"accuracy-{name}.json").write_text("{}")
        names = ["grpo-0", "gone", "more-sft", "rejection"]
        lanes = self.experiment(scripts, tmp_path).test("s2", names, 1, ["grpo-0"])
        assert [[stage.name for stage in lane.stages] for lane in lanes] == [
            ["test of s2, k 16", "test of more-sft, k 1"],
            ["test of grpo-0, k 16", "test of rejection, k 1"],
            ["test of s2, k 1"],
            ["test of grpo-0, k 1"],
        ]
        lanes = self.experiment(scripts, tmp_path).test("s2", names, 2)
        assert [lane.gpu for lane in lanes] == [0, 1] * 4

    def test_an_arm_that_is_none(self, scripts: Any, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="expected grpo-SEED, random-SEED, format-SEED, steps"):
            self.lanes(scripts, tmp_path, "grpo")

    @pytest.mark.parametrize("kind", ["grpo", "random", "format", "plain", "steps"])
    def test_every_kind_of_run_is_paid_for_something(self, scripts: Any, kind: str) -> None:
        config = load_config(REWARDS.parent / "gsm8k.yaml", list(scripts.plan.RUNS[kind]))
        weights = {reward.name: reward.weight for reward in load_rewards(config.rewards)}
        assert weights["chain_reward:correct_by_true_sums"] == (kind in ("grpo", "plain", "steps"))
        assert ("control_reward:coin" in weights) == (kind == "random")
        assert config.sampling.is_used == (kind != "plain")

    def test_the_budget_follows_the_pace(self, scripts: Any, tmp_path: Path) -> None:
        experiment = self.experiment(scripts, tmp_path)
        left_s = 400 + experiment.scale.start_s + experiment.scale.pick_s
        assert experiment.budget(left_s, every=80).steps == int(400 / (1.8 + 5 / 80))
        log = tmp_path / "pace-0" / "metrics.jsonl"
        log.parent.mkdir()
        times = [0, 9, 12, 15, 16, 17, 18, 19]  # the first ones are slow
        log.write_text("".join(f'{{"step": {n}, "time": {t}}}\n' for n, t in enumerate(times, 1)))
        budget = experiment.budget(left_s, every=80)
        assert (budget.steps, budget.arm_s, budget.step_s) == (376, 400, 1.0)
        budget = experiment.budget(left_s, every=80, steps=130)
        assert (budget.steps, budget.arm_s) == (130, round(130 * (1 + 5 / 80)))
        with pytest.raises(UserError, match="too few for arms"):
            experiment.budget(100, every=80)
        last = replace(experiment, last=True)  # nothing is chosen: no time for that
        assert last.budget(left_s - experiment.scale.pick_s, every=80).steps == 376

    def test_the_pace_is_that_of_the_arms_as_many_as_share_a_gpu(
        self, scripts: Any, tmp_path: Path
    ) -> None:
        experiment = self.experiment(scripts, tmp_path)
        lanes = experiment.paces("s2", 1, 3, ["packed_rows=true"])
        assert [stage.name for lane in lanes for stage in lane.stages] == [
            "pace-0",
            "pace-1",
            "pace-2",
        ]
        assert all("packed_rows=true" in lane.stages[0].words for lane in lanes)
        names, budget = ["grpo-0", "grpo-1", "format-0"], scripts.plan.Budget(10, 20.0, 1.0)
        lanes = experiment.arms("s2", names, 1, budget, [], cut=True, abreast=2)
        assert [(lane.gpu, len(lane.stages)) for lane in lanes] == [(0, 4), (0, 2)]


def start(greedy: int, majority: float, entropy: float | None) -> dict[str, Any]:
    accuracy = {"accuracy": {"hits": greedy, "total": 100}}
    return {
        "validation": accuracy,
        "validation-retold": accuracy,
        "sampled": {"entropy": entropy, "majority": {"value": majority}},
    }


@pytest.mark.parametrize(
    ("starts", "chosen"),
    [
        pytest.param({"s0": start(10, 0.12, 0.5), "s2": start(10, 0.15, 0.4)}, "s2", id="majority"),
        pytest.param({"s0": start(7, 0.3, 0.5), "s2": start(10, 0.1, 0.4)}, "s2", id="too-low"),
        pytest.param({"s0": start(10, 0.1, 0.4), "s2": start(10, 0.3, 0.2)}, "s0", id="cold"),
        pytest.param({"s0": start(9, 0.1, 0.2), "s2": start(10, 0.1, 0.2)}, "s2", id="all-cold"),
        pytest.param({"s0": start(9, 0.1, None), "s2": start(9, 0.2, None)}, "s2", id="unknown"),
    ],
)
def test_the_base_is_chosen_by_rule(scripts: Any, starts: dict[str, Any], chosen: str) -> None:
    assert scripts.learn.choose({**starts, "grpo-0": {"curve": []}}) == chosen


def test_no_base_can_be_chosen_before_there_is_one(scripts: Any) -> None:
    with pytest.raises(UserError, match="run the phase `base` first"):
        scripts.learn.choose({})


class TestLanes:
    def run(self, scripts: Any, folder: Path, *stages: Any, seconds: float = 60) -> dict[str, Any]:
        told: dict[str, Any] = {}
        runner = scripts.runner.Runner(folder, time.monotonic() + seconds, told.__setitem__)
        told["all"] = runner.run([scripts.runner.Lane(0, stages)])
        return told

    def stage(self, scripts: Any, folder: Path, name: str, code: str, **more: Any) -> Any:
        return scripts.runner.Stage(name, ("-c", code), folder / name, **more)

    def test_what_is_finished_is_not_done_again(self, scripts: Any, tmp_path: Path) -> None:
        once = self.stage(scripts, tmp_path, "once", "open('once', 'x')")
        first = self.run(scripts, tmp_path, once)
        assert first["once"]["finished"]
        assert self.run(scripts, tmp_path, once) == {"all": True}

    def test_a_stage_that_fails_does_not_hold_up_the_next(
        self, scripts: Any, tmp_path: Path
    ) -> None:
        told = self.run(
            scripts,
            tmp_path,
            self.stage(scripts, tmp_path, "bad", "raise SystemExit('no luck')"),
            self.stage(scripts, tmp_path, "after", "0", needs=(tmp_path / "bad",)),
            self.stage(scripts, tmp_path, "good", "open('good', 'x')"),
        )
        assert not told["all"]
        assert told["bad"]["last_lines"] == ["no luck"]
        assert told["after"]["ending"] == "not begun: bad is not there"
        assert told["good"]["finished"]

    def test_what_has_no_time_is_not_begun(
        self, scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        stage = self.stage(scripts, tmp_path, "long", "0", least_s=100)
        told = self.run(scripts, tmp_path, stage, seconds=50)
        assert told["long"]["ending"] == "not begun: 42 s left, 100 s needed"

    def test_a_stage_leaves_time_to_those_after_it(
        self, scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        stage = self.stage(scripts, tmp_path, "run", "0", least_s=30, leaves_s=20)
        told = self.run(scripts, tmp_path, stage, seconds=50)
        assert told["run"]["ending"] == "not begun: 22 s left, 30 s needed"

    def test_lanes_run_side_by_side(self, scripts: Any, tmp_path: Path) -> None:
        waits = (
            "import os, time\nopen('{0}', 'x')\nwhile not os.path.exists('{1}'): time.sleep(0.1)"
        )
        lanes = [
            scripts.runner.Lane(1, [self.stage(scripts, tmp_path, one, waits.format(one, other))])
            for one, other in (("a", "b"), ("b", "a"))
        ]
        runner = scripts.runner.Runner(tmp_path, time.monotonic() + 60, lambda *_: None)
        assert runner.run(lanes)

    def test_a_gpu_is_shared_with_lanes_that_have_work(self, scripts: Any, tmp_path: Path) -> None:
        def note(name: str, ended: dict[str, Any]) -> None:
            told[name] = ended
            (tmp_path / f"{name} is noted").touch()

        waits = "import os, time\nwhile not os.path.exists('a is noted'): time.sleep(0.05)\n"
        stages = {
            "earlier": self.stage(scripts, tmp_path, "earlier", ""),
            "a": self.stage(scripts, tmp_path, "a", "open('a', 'x')"),
            "b": self.stage(scripts, tmp_path, "b", waits + "open('b', 'x')"),
            "never": self.stage(scripts, tmp_path, "never", "", needs=(tmp_path / "no",)),
        }
        (tmp_path / "earlier").touch()
        told: dict[str, Any] = {}
        runner = scripts.runner.Runner(tmp_path, time.monotonic() + 60, note)
        places = {"earlier": 0, "a": 0, "b": 0, "never": 1}
        runner.run([scripts.runner.Lane(gpu, [stages[name]]) for name, gpu in places.items()])
        assert {name: told[name]["abreast"] for name in told} == {"a": 2, "b": 1, "never": 1}
        assert told["never"]["seconds"] == 0  # the table adds them up

    def test_what_saves_is_told_before_it_is_killed(
        self, scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wait = subprocess.Popen.wait

        def time_is_up(_: Any, timeout: float) -> int:
            while not (tmp_path / "began").exists():
                time.sleep(0.01)
            monkeypatch.setattr(subprocess.Popen, "wait", wait)
            raise subprocess.TimeoutExpired("", timeout)

        monkeypatch.setattr(subprocess.Popen, "wait", time_is_up)
        code = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'x'), sys.exit(3)))\n"
            "open('began', 'x')\ntime.sleep(60)"
        )
        stage = self.stage(scripts, tmp_path, "run", code, saves=True, least_s=1)
        told = self.run(scripts, tmp_path, stage)
        assert told["run"]["ending"] == "told to stop, exit code 3"
        assert (tmp_path / "saved").exists()

    def test_who_ends_the_experiment_ends_its_stages_after_they_have_saved(
        self, tmp_path: Path
    ) -> None:
        child = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'x'), sys.exit(3)))\n"
            "open('began', 'x')\ntime.sleep(60)"
        )
        code = (
            "import sys, time\nfrom pathlib import Path\n"
            "from recipes.gsm8k.stages.runner import Lane, Runner, Stage\n"
            "stage = Stage('run', ('-c', sys.argv[2]), Path('run'), saves=True, least_s=1)\n"
            "note = lambda name, ended: open('noted', 'x').write(f'{name} {ended}')\n"
            "runner = Runner(Path(sys.argv[1]), time.monotonic() + 99, note)\n"
            "runner.run([Lane(0, [stage])])"
        )
        words = [sys.executable, "-c", code, str(tmp_path), child]
        paths = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(words, cwd=tmp_path, env=paths, start_new_session=True) as running:
            while not (tmp_path / "began").exists():
                assert running.poll() is None
                time.sleep(0.05)
            running.terminate()
            assert running.wait(60) == 128 + signal.SIGTERM
        assert (tmp_path / "saved").exists()
        assert (
            (tmp_path / "noted").read_text(encoding="utf-8").startswith("run {'ending': 'stopped'")
        )


class TestWarmStart:
    def test_the_rate_rises_and_falls(self, scripts: Any) -> None:
        share = scripts.warm_start.share
        assert share(0, 0.0) == pytest.approx(1 / 20)
        assert share(100, 0.0) == 1.0
        assert share(100, 0.5) == pytest.approx(0.55)
        assert share(100, 1.0) == pytest.approx(0.1)

    def test_models_on_the_way_are_kept(self, scripts: Any) -> None:
        model: Any = torch.nn.Linear(1, 1)
        model.device = torch.device("cpu")
        kept: list[tuple[float, int]] = []
        keep = [(s, lambda curve, s=s: kept.append((s, curve[-1]["step"]))) for s in (0.5, 0.75)]

        def loss_of(*_: Any) -> torch.Tensor:
            loss: torch.Tensor = model(torch.ones(1, 1)).sum()
            loss.backward()
            return loss.detach()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scripts.warm_start, "learn_from", loss_of)
            curve = scripts.warm_start.train(
                model, iter([[]] * 8), steps=8, seconds=60, rate=0.1, micro=1, keep=keep
            )
        assert kept == [(0.5, 4), (0.75, 6)]
        assert curve[-1]["step"] == 8

    def test_every_row_comes_before_one_comes_again(self, scripts: Any) -> None:
        pairs = [([number], [number]) for number in range(10)]
        source = scripts.warm_start.batches(pairs, 4, dice(0))
        drawn = [pair[0][0] for _ in range(5) for pair in next(source)]
        assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))

    def test_the_loss_is_over_the_replies_alone(self, scripts: Any) -> None:
        from transformers import Gemma3ForCausalLM, Gemma3TextConfig

        torch.manual_seed(0)
        shape = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "vocab_size": 50}
        config = Gemma3TextConfig(
            **shape, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
        )
        model = Gemma3ForCausalLM(config).eval()
        pairs = [([5, 9, 11], [7, 6]), ([5, 8], [4, 3, 12, 6])]
        with torch.no_grad():
            expected = 0.0
            for prompt, reply in pairs:
                logits = model(torch.tensor([prompt + reply])).logits[0].log_softmax(dim=-1)
                for place, token in enumerate(reply, start=len(prompt) - 1):
                    expected -= logits[place, token].item()
            found = scripts.warm_start.summed_loss(model, pairs).item()
        assert found == pytest.approx(expected, rel=1e-5)


class TestAccuracy:
    def reply(self, scripts: Any, answer: str, logprob: float | None = -2.0) -> Any:
        text = render(f"48 + 24 = {answer}", answer)
        grade = get_task("gsm8k").grade(text, Example("", "", "72", ""))
        return scripts.answering.Reply(text, 4, True, grade, answer == "72", logprob)

    @pytest.mark.parametrize(
        ("answers", "is_right"),
        [
            pytest.param(["72", "72", "5"], True, id="most"),
            pytest.param(["72", "5", "5"], False, id="few"),
            pytest.param(["5", "72"], False, id="tie-goes-to-the-first"),
            pytest.param(["72.0", "72", "5", "5"], True, id="one-number-in-two-writings"),
        ],
    )
    def test_majority(self, scripts: Any, answers: list[str], is_right: bool) -> None:
        group = [self.reply(scripts, answer) for answer in answers]
        assert scripts.accuracy.majority_is_right(group) == is_right

    def test_samples_are_counted_by_row(self, scripts: Any) -> None:
        groups = [["72", "72", "5", "5"], ["5", "5", "5", "5"]]
        replies = [[self.reply(scripts, answer) for answer in group] for group in groups]
        answering = SimpleNamespace(replies=lambda examples, samples, sampling: replies)
        rows = [clips(0), clips(1)]
        told = scripts.accuracy.sampled(answering, rows, 4, 16)
        assert told["accuracy"]["value"] == 0.25
        assert (told["majority"]["hits"], told["any"]["hits"]) == (1, 1)
        assert told["mixed_groups"] == 0.5
        assert told["entropy"] == 0.5
        assert told["commonest_answer"] == {"answer": "5", "share": 0.75}
        assert told["shown_among_right"] == 1.0


def test_the_configuration_is_one_that_a_run_accepts(scripts: Any) -> None:
    config = load_config(REWARDS.parent / "gsm8k.yaml")
    check_grpo(config.grpo)
    check_lora(config.lora)
    check_groups(config.grpo)
    assert load_rewards(config.rewards)
    assert config.holdout.every % config.grpo["save_steps"] == 0


def test_the_table_says_what_was_measured(scripts: Any) -> None:
    path = ROOT / "docs" / "measured" / "learn-gsm8k-equal-time-h200.json"
    models = scripts.table.models(json.loads(path.read_text(encoding="utf-8")))
    assert [model.kind for model in models] == ["base", "grpo", "steps", "random", "rejection"]
    _, grpo, _, coin, rejection = scripts.table.table(models).splitlines()[2:]
    assert grpo.startswith("| GRPO | 4.6 | 8.4% [7.0, 10.0] | +1.5 [-0.1, +3.2] | 8.3% [7.2, 9.4]")
    assert coin.endswith("| 6.4% [5.2, 7.8] | -0.5 [-2.0, +1.0] |  |  |  |  |")
    assert "| 4.1 |" in rejection, "with the time of its samples"


def test_seeds_of_one_kind_have_a_table_of_their_own(scripts: Any) -> None:
    seeds = {"grpo-0": 0.10, "grpo-1": 0.12}
    gap = {"value": 0.04, "low": 0.01, "high": 0.07}
    told = {"seeds": seeds, "mean": 0.11, "lowest": 0.10, "highest": 0.12, "difference": gap}
    assert not scripts.table.seeds_table({})
    *_, row = scripts.table.seeds_table({"grpo": told}).splitlines()
    assert row == "| GRPO | 2 | 11.0% | 10.0 to 12.0 | +4.0 [+1.0, +7.0] |"


@pytest.mark.scripts
@pytest.mark.timeout(1800)  # some 15 processes, each of which loads the libraries
def test_the_whole_experiment_in_small(gsm8k_dir: Path, tmp_path: Path) -> None:
    """Every phase, from a model of random weights: the way, not the result."""
    command = [
        *(sys.executable, "-m", "recipes.gsm8k.learn", "--small", "--gsm8k", str(gsm8k_dir)),
        *("--work", str(tmp_path / "work"), "--out", str(tmp_path / "told.json")),
        *("--call-s", "900"),
    ]
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "own.log").touch()  # somebody else's
    told: dict[str, Any] = {}
    for phase in ("base", "screen", "arms", "test"):
        words = [*command, phase, "--arms", "grpo-0", "more-sft"]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
        told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
        assert ran.returncode == 0, ran.stdout + ran.stderr
    arms = {"grpo-0", "more-sft"}
    assert set(told["results"]) == {"s1", "s2-50", "s2", "pace-0", *arms}
    steps = [row["step"] for row in told["results"]["grpo-0"]["curve"]]
    assert steps == list(range(told["budget"]["steps"] + 1))
    assert set(told["results"]["grpo-0"]["candidates"]) == {"last", "best", "mean"}
    assert "more-sft" in told["results"]["more-sft"]["candidates"]
    assert set(told["test"]) == {told["base"], *arms}
    assert len(told["calls"]) == 4
    table = (tmp_path / "told.md").read_text(encoding="utf-8").splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == [
        "| base",
        "| GRPO",
        "| supervised, same stories",
    ]
    assert (tmp_path / "told.svg").stat().st_size
    assert [log.name for log in (tmp_path / "work").glob("*.log")] == ["own.log"]

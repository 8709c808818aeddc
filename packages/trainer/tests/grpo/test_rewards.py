"""What the guard around a reward function lets through, and what it says of the rest."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from xmlgrpo_rewards.task import Example
from xmlgrpo_rewards.total import WeightedReward
from xmlgrpo_trainer.grpo.rewards import RewardError, Scored, trl_rewards

PROMPTS = [[{"role": "user", "content": "1+1?"}]] * 2
COMPLETIONS = [[{"role": "assistant", "content": text}] for text in ("2", "three")]
COLUMNS = {"answer": ["2", "3"], "id": ["a", "b"], "question": ["1+1?"] * 2, "judge": ["", "x"]}
STATE = SimpleNamespace(global_step=6)


def call(function: Any, batch: list[Scored] | None = None) -> list[float | None]:
    batch = [] if batch is None else batch
    [scored] = trl_rewards([WeightedReward("mine", 1.0, function)], batch)
    return scored(prompts=PROMPTS, completions=COMPLETIONS, trainer_state=STATE, **COLUMNS)


def raising(**_: Any) -> list[float]:
    raise KeyError("gold")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(raising, ["raised KeyError", "'gold'", "'2'"], id="raises"),
        pytest.param(lambda **_: [1.0, math.nan], ["finite", "nan", "'three'"], id="nan"),
        pytest.param(lambda **_: [math.inf, 0.0], ["finite", "inf", "'2'"], id="infinite"),
        pytest.param(lambda **_: [1.0], ["list of 2", "got 1"], id="too-short"),
        pytest.param(lambda **_: [1.0, 2.0, 3.0], ["list of 2", "got 3"], id="too-long"),
        pytest.param(lambda **_: 1.0, ["list of 2", "float"], id="not-a-list"),
        pytest.param(lambda **_: ["1", 0.0], ["finite", "'1'"], id="text-for-a-number"),
        pytest.param(lambda **_: None, ["list of 2", "NoneType"], id="nothing"),
        pytest.param(lambda **_: [True, False], ["finite", "True", "'2'"], id="truth-values"),
    ],
)
def test_what_is_no_score_stops_with_function_step_and_reason(
    function: Any, words: list[str]
) -> None:
    with pytest.raises(RewardError) as caught:
        call(function)
    for word in ["at step 7", "the reward 'mine'", *words]:
        assert word in str(caught.value)


def test_scores_pass_through_and_none_means_no_opinion() -> None:
    assert call(lambda **_: [0.5, None]) == [0.5, None]


def test_the_batch_keeps_questions_golds_texts_and_scores() -> None:
    batch: list[Scored] = []
    call(lambda **_: [2.0, 0.0], batch)
    assert batch == [
        Scored(Example("a", "1+1?", "2", "", ""), "2", {"mine": 2.0}),
        Scored(Example("b", "1+1?", "3", "", "x"), "three", {"mine": 0.0}),
    ]
    call(lambda **_: [0.0, 1.0], batch)
    assert [one.scores for one in batch] == [{"mine": 0.0}, {"mine": 1.0}]


def test_each_reward_adds_its_score_to_the_same_completions() -> None:
    batch: list[Scored] = []
    rewards = [WeightedReward(name, 1.0, lambda **_: [1.0, None]) for name in ("one", "two")]
    for scored in trl_rewards(rewards, batch):
        scored(prompts=PROMPTS, completions=COMPLETIONS, **COLUMNS)
    assert [one.scores for one in batch] == [{"one": 1.0, "two": 1.0}, {"one": None, "two": None}]


def test_a_long_completion_is_shown_cut() -> None:
    long = [[{"role": "assistant", "content": "x" * 5000}]] * 2
    [scored] = trl_rewards([WeightedReward("mine", 1.0, raising)], [])
    with pytest.raises(RewardError) as caught:
        scored(prompts=PROMPTS, completions=long, **COLUMNS)
    assert len(str(caught.value)) < 500


def test_the_wrapper_bears_the_name_that_plots_go_by() -> None:
    [scored] = trl_rewards([WeightedReward("my.rewards:pays", 1.0, raising)], [])
    assert scored.__name__ == "my.rewards:pays"

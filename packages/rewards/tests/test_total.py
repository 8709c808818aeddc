import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xmlgrpo_rewards import UserError, load_rewards, render, total
from xmlgrpo_rewards.scores import int_reward_func
from xmlgrpo_rewards.total import CLASSIC, WeightedReward, score

GOOD = render("16 - 3 = 13", "13")
OWN = """
class Callable:
    def __call__(self, completions, **columns):
        return [0.25] * len(completions)

counted = Callable()
not_a_function = 3

def shorter(completions, answer, **columns):
    return [1 - len(text) / 1000 for text in completions]

def skips(completions, **columns):
    return [None for _ in completions]

def returns_nan(completions, **columns):
    return [0.0, float("nan")][: len(completions)]

def returns_text(completions, **columns):
    return ["1.0" for _ in completions]

def returns_bool(completions, **columns):
    return [True for _ in completions]

def returns_one_number(completions, **columns):
    return 1.0

def returns_too_few(completions, **columns):
    return [1.0 for _ in completions][1:]

def raises(completions, **columns):
    return [1 / 0 for _ in completions]

def wants_another_column(completions, tests, **columns):
    return [0.0 for _ in completions]
"""


@pytest.fixture(autouse=True)
def own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_rewards.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "broken_rewards.py").write_text("import no_such_package\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_rewards", None)


def own(name: str) -> WeightedReward:
    [reward] = load_rewards({f"own_rewards:{name}": 1.0})
    return reward


def test_the_five_are_found_by_name() -> None:
    rewards = load_rewards(dict.fromkeys(CLASSIC, 1))
    assert [reward.name for reward in rewards] == [
        "correctness_reward_func",
        "int_reward_func",
        "strict_format_reward_func",
        "soft_format_reward_func",
        "xmlcount_reward_func",
    ]
    assert rewards[1] == WeightedReward("int_reward_func", 1.0, int_reward_func)


def test_an_own_function_is_found_by_path() -> None:
    assert score(own("shorter"), ["x" * 100], answer=["1"]) == [0.9]
    assert score(own("counted"), ["x", "y"]) == [0.25, 0.25]


def test_total_weighs_and_breaks_down() -> None:
    rewards = load_rewards({"correctness_reward_func": 1.5, "own_rewards:shorter": -1.0})
    right, wrong = total(rewards, [GOOD, "x" * 100], answer=["13", "13"])
    assert right.parts == {
        "correctness_reward_func": 2.0,
        "own_rewards:shorter": 1 - len(GOOD) / 1000,
    }
    assert right.value == pytest.approx(1.5 * 2.0 - (1 - len(GOOD) / 1000))
    assert wrong.value == pytest.approx(-0.9)


def test_full_marks_are_four() -> None:
    [came] = total(load_rewards(dict.fromkeys(CLASSIC, 1)), [GOOD], answer=["13"])
    assert came.value == 4.0


def test_none_is_no_opinion() -> None:
    rewards = load_rewards({"own_rewards:skips": 5.0, "int_reward_func": 1.0})
    [came] = total(rewards, [GOOD])
    assert came.value == 0.5
    assert came.parts["own_rewards:skips"] is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({}, "expected at least one reward, got none", id="nothing"),
        pytest.param({"int_reward_func": 0}, "got only zeros", id="only-zeros"),
        pytest.param({"int_reward": 1}, "did you mean 'int_reward_func'", id="near"),
        pytest.param({"zzz": 1}, "no reward is named 'zzz'; there are: correct", id="far"),
        pytest.param({"int_reward_func": math.nan}, "finite number as weight, got nan", id="nan"),
        pytest.param({"int_reward_func": math.inf}, "got inf", id="infinite"),
        pytest.param({"int_reward_func": "1"}, "rewards.int_reward_func: .* '1'", id="text"),
        pytest.param({"int_reward_func": True}, "got True", id="bool"),
        pytest.param({"int_reward_func": None}, "got None", id="none"),
        pytest.param({"no_such_module:f": 1}, "cannot import 'no_such_module'", id="module"),
        pytest.param({"broken_rewards:f": 1}, "No module named 'no_such_package'", id="imports"),
        pytest.param({":f": 1}, "cannot import ''", id="no-module"),
        pytest.param({"own_rewards:": 1}, "no function ''", id="no-function"),
        pytest.param({"own_rewards:shortr": 1}, "did you mean 'shorter'", id="near-in-module"),
        pytest.param({"own_rewards:not_a_function": 1}, "no function 'not_a_f", id="not-callable"),
        pytest.param(
            {"int_reward_func": 1, "xmlgrpo_rewards.scores:int_reward_func": 1},
            "are the same reward; name it once",
            id="twice",
        ),
    ],
)
def test_a_wrong_spec_is_a_user_error(spec: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_rewards(spec)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("returns_nan", "finite numbers; got nan for", id="nan"),
        pytest.param("returns_text", "got '1.0' for", id="text"),
        pytest.param("returns_bool", "got True for", id="bool"),
        pytest.param("returns_one_number", "a list of 2 numbers, .* got float", id="no-list"),
        pytest.param("returns_too_few", "a list of 2 numbers, .* got 1", id="too-few"),
        pytest.param("raises", "raised ZeroDivisionError: division by zero", id="raises"),
        pytest.param("wants_another_column", "missing 1 required .* 'tests'", id="column-missing"),
    ],
)
def test_a_reward_that_misbehaves_is_named(name: str, said: str) -> None:
    with pytest.raises(UserError, match=f"the reward 'own_rewards:{name}' .*{said}"):
        score(own(name), [GOOD, GOOD])


def test_a_bad_gold_passes_through_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^answer\[0\]: expected a number"):
        total(load_rewards({"correctness_reward_func": 1}), [GOOD], answer=["cat"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("def pays(:", "raised SyntaxError", id="syntax"),
        pytest.param("pays = undefined", "raised NameError", id="name"),
    ],
)
def test_a_module_of_ones_own_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "broken_reward.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"'broken_reward' {words}"):
        load_rewards({"broken_reward:pays": 1.0})

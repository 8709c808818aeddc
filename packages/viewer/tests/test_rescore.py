import io
from typing import Any

import pytest
from rich.console import Console

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_viewer.reading.paid import paid_for
from xmlgrpo_viewer.reading.run_view import read_run
from xmlgrpo_viewer.reading.sampled import read_sampled
from xmlgrpo_viewer.replay.command import read_rewards
from xmlgrpo_viewer.replay.rescored import by_stretch, other_winners, rescore
from xmlgrpo_viewer.replay.show import show

from .conftest import RIGHT, WRONG, completion, write_lines


def test_completions_are_paid_by_other_rewards(training):
    rows = [completion(6, RIGHT), completion(6, WRONG, strict_correct=False), completion(6, "no")]
    write_lines(training.completions_of(6), rows)
    found = rescore(read_run(training), {"int_reward_func": 8.0, "strict_format_reward_func": 0.0})
    last = found[-3:]
    assert [one.before for one in last] == [2.0, 2.0, 2.0], "as it was paid"
    assert [one.after for one in last] == [4.0, 4.0, 0.0]
    assert [one.is_right for one in last] == [True, False, False]
    assert [one.was_right for one in last] == [True, False, True]
    assert other_winners(found) == (0, 1)
    assert by_stretch(found)[0] == ("1 to 1", 2.0, 4.0)


def test_it_says_whether_another_reward_pays_wrong_answers_too(training):
    scores = {"near:near": 2.0}
    wrong = completion(6, WRONG, scores=scores, strict_correct=False, lenient_correct=False)
    rows = [completion(6, RIGHT, scores=scores)] * 4 + [wrong] * 4
    write_lines(training.completions_of(6), rows)
    view, new = read_run(training), {"correctness_reward_func": 1.0}
    console = Console(file=io.StringIO(), width=200)
    show(rescore(view, new), {"near:near": 1.0}, new, console)
    *_, paid, would_be_paid = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert paid.startswith("paid: 4 of 4 wrong completions (100%) earned what right ones earn, 2 ")
    assert would_be_paid.startswith("would be paid: 0 of 4 wrong completions (0%) earned what")


def test_usual_pay_is_what_three_quarters_of_the_right_ones_earned(training):
    def paid(score: float, right: bool) -> dict[str, Any]:
        scores = {"near:near": score}
        return completion(6, scores=scores, strict_correct=right, lenient_correct=right)

    right, wrong = (1.0, 2.0, 3.0, 4.0), (1.0, 1.2, 1.3, 9.0)
    rows = [paid(score, True) for score in right] + [paid(score, False) for score in wrong]
    for path in training.completions.iterdir():
        path.unlink()
    write_lines(training.completions_of(6), rows)
    found = paid_for(read_sampled(read_run(training))[0], {"near:near": 10.0})
    assert found is not None
    assert (found.usual, found.as_right) == (12.5, 2)


def test_another_winner_of_a_group_is_counted(training):
    scores = [{"correctness_reward_func": 0.0}, {"correctness_reward_func": 2.0}]
    rows = [completion(6, text, scores=s) for text, s in zip((RIGHT, WRONG), scores, strict=True)]
    write_lines(training.completions_of(6), rows)
    assert other_winners(rescore(read_run(training), {"correctness_reward_func": 1.0})) == (1, 1)


def test_a_run_without_completions_is_refused(training):
    for path in training.completions.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"has kept no completion; watch\.samples_kept"):
        rescore(read_run(training), {"int_reward_func": 1.0})


def test_a_run_whose_configuration_is_not_understood_is_refused_for_that(training):
    training.config.write_text("tusk: gsm8k\n")
    with pytest.raises(UserError, match=r"cannot be paid anew: .*unknown key 'tusk'"):
        rescore(read_run(training), {"int_reward_func": 1.0})


@pytest.mark.parametrize("word", ["a", "=1", "a=", "a=b", "", "a=1x"])
def test_a_word_that_is_no_reward_is_refused(word):
    with pytest.raises(UserError, match="expected NAME=WEIGHT"):
        read_rewards([word])


def test_words_are_rewards():
    assert read_rewards(["a=1", "my.module:f=-0.5", "b=2"]) == {"a": 1, "my.module:f": -0.5, "b": 2}

import random
from collections.abc import Callable
from decimal import Decimal
from typing import cast

import pytest

from xmlgrpo_rewards import (
    Example,
    UserError,
    correctness_reward_func,
    int_reward_func,
    render,
    soft_format_reward_func,
    strict_format_reward_func,
    xmlcount_reward_func,
)
from xmlgrpo_rewards.hacks import RIGHT, hostile_texts
from xmlgrpo_rewards.reply import TAGS, completion_text, parse
from xmlgrpo_rewards.total import CLASSIC

OPEN, CLOSE, ANSWER, END = TAGS
GOOD = render("16 - 3 = 13\n\nSo 13.", "13")


def all_five(text: str, gold: object = "13") -> list[float]:
    """Correctness, int, strict, soft and count of one completion."""
    scores = [
        function(prompts=["q"], completions=[text], answer=[gold]) for function in CLASSIC.values()
    ]
    return [score for [score] in scores]


# correctness, int, strict, soft, count
CASES = [
    pytest.param(GOOD, [2, 0.5, 0.5, 0.5, 0.5], id="multi-line-reasoning"),
    pytest.param(f"{GOOD}\n", [2, 0.5, 0.5, 0.5, 0.5], id="newline-after"),
    pytest.param(GOOD[: GOOD.index(END) - 1] + END, [2, 0.5, 0, 0.5, 0.5], id="newline-missing"),
    pytest.param(GOOD.replace("\n", ""), [2, 0.5, 0, 0.5, 0.5], id="one-line"),
    pytest.param(render("x", "14"), [0, 0.5, 0.5, 0.5, 0.5], id="wrong-number"),
    pytest.param(render("x", "13.0"), [2, 0.5, 0.5, 0.5, 0.5], id="13.0-is-a-whole-number"),
    pytest.param(render("x", "$13.00"), [2, 0.5, 0.5, 0.5, 0.5], id="dollars"),
    pytest.param(render("x", "-13"), [0, 0.5, 0.5, 0.5, 0.5], id="negative"),
    pytest.param(render("x", "13.5"), [0, 0, 0.5, 0.5, 0.5], id="not-whole"),
    pytest.param(render("x", "13 apples"), [0, 0, 0.5, 0.5, 0.5], id="unit"),
    pytest.param(render("x", "１３"), [0, 0, 0.5, 0.5, 0.5], id="full-width-digits"),
    pytest.param("13", [0, 0, 0, 0, 0], id="untagged"),
    pytest.param("", [0, 0, 0, 0, 0], id="empty"),
    pytest.param(f"{ANSWER}13{END}", [2, 0.5, 0, 0, 0.25], id="answer-block-alone"),
    pytest.param(GOOD + "!" * 100, [2, 0.5, 0, 0, 0.4], id="100-characters-after"),
    pytest.param(f"{GOOD}\n" + "!" * 100, [2, 0.5, 0, 0, 0.4], id="newline-then-100-characters"),
    pytest.param(GOOD + "!" * 5000, [2, 0.5, 0, 0, 0], id="5000-characters-after"),
    pytest.param(GOOD + "\n" * 101, [2, 0.5, 0, 0.5, 0.4], id="101-newlines-after"),
    pytest.param("!" * 5000 + GOOD, [2, 0.5, 0, 0, 0.5], id="5000-characters-before"),
    pytest.param(GOOD + END, [0, 0, 0, 0, 0.375 - 0.009], id="closed-twice"),
    pytest.param(GOOD + "!" * 5000 + END, [0, 0, 0, 0, 0], id="closed-again-after-text"),
    pytest.param(OPEN + GOOD, [2, 0.5, 0, 0, 0.25], id="opened-twice"),
    pytest.param(f"{ANSWER}13{END}{OPEN}x{CLOSE}", [0, 0, 0, 0, 0.25 - 0.024], id="reversed"),
]

COUNTS = [
    pytest.param(OPEN, 0.125, id="first-tag"),
    pytest.param(f"{OPEN}x{CLOSE}", 0.25, id="two-tags"),
    pytest.param(f"{OPEN}x{CLOSE}{ANSWER}", 0.375, id="three-tags"),
    pytest.param(f"{OPEN}x{CLOSE}{ANSWER}1{END}", 0.5, id="four-tags"),
    pytest.param(f"{OPEN}{CLOSE}{ANSWER}{END}", 0.5, id="four-tags-and-nothing-else"),
    pytest.param(CLOSE, 0.0, id="closing-tag-without-opening"),
    pytest.param(END, 0.0, id="answer-closed-without-opening"),
    pytest.param(f"{CLOSE}{OPEN}", 0.125, id="closing-tag-first"),
    pytest.param(f"{OPEN}{ANSWER}1{END}", 0.375, id="one-missing"),
    pytest.param(OPEN * 2, 0.0, id="the-same-twice"),
    pytest.param(OPEN * 10_000, 0.0, id="the-same-10000-times"),
    pytest.param("".join(TAGS) * 2, 0.0, id="all-twice"),
    pytest.param("".join(reversed(TAGS)), 0.125 - 0.031, id="all-backwards"),
    pytest.param("no tags at all", 0.0, id="none"),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_all_five(text: str, expected: list[float]) -> None:
    assert all_five(text) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("text", "expected"), COUNTS)
def test_xmlcount(text: str, expected: float) -> None:
    assert xmlcount_reward_func([text]) == pytest.approx([expected], abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        pytest.param("13", "13", id="text"),
        pytest.param(13, "13", id="int"),
        pytest.param(13.0, "13", id="float"),
        pytest.param(Decimal("13.00"), "13", id="decimal"),
        pytest.param("1,234", "1234", id="gold-with-comma"),
        pytest.param("1234", "1,234", id="answer-with-comma"),
        pytest.param("-5", "−5", id="unicode-minus"),
        pytest.param("0", "-0", id="minus-zero"),
        pytest.param(" 13\n", "13", id="white-space"),
    ],
)
def test_correctness_compares_numbers(gold: object, answer: str) -> None:
    assert all_five(render("x", answer), gold)[0] == 2.0


@pytest.mark.parametrize("gold", ["", "abc", "#### 13", "1/2", None, True, float("nan"), ["13"]])
def test_a_gold_that_is_no_number_is_named(gold: object) -> None:
    with pytest.raises(UserError, match=r"answer\[1\]: expected a number") as raised:
        correctness_reward_func(["q"] * 2, [GOOD] * 2, ["13", cast(str, gold)])
    assert repr(gold) in str(raised.value)


def test_as_many_golds_as_completions() -> None:
    with pytest.raises(ValueError, match="expected 2 golds"):
        correctness_reward_func(["q"] * 2, [GOOD] * 2, ["13"])


def test_one_gold_instead_of_a_list_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected a list of golds in `answer`, got one text: '13'"):
        correctness_reward_func(["q"] * 2, [GOOD] * 2, "13")


def test_the_classic_positional_call() -> None:
    said = [[{"role": "assistant", "content": GOOD}]]
    prompts = [[{"role": "user", "content": "How many?"}]]
    assert correctness_reward_func(prompts, said, ["13"], step=3) == [2.0]
    assert int_reward_func(said, step=3) == [0.5]
    assert strict_format_reward_func(said, step=3) == [0.5]
    assert soft_format_reward_func(said, step=3) == [0.5]
    assert xmlcount_reward_func(said, step=3) == [0.5]


def test_the_call_of_trl() -> None:
    columns = {"prompts": ["q"], "completion_ids": [[1]], "trainer_state": None, "log_extra": print}
    for function in CLASSIC.values():
        [score] = function(completions=[GOOD], answer=["13"], solution=["x"], **columns)
        assert score is not None
        assert type(score) is float


def test_an_empty_batch_scores_nothing() -> None:
    assert correctness_reward_func([], [], []) == []
    assert xmlcount_reward_func([]) == []


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        pytest.param("hi", "hi", id="text"),
        pytest.param("", "", id="empty-text"),
        pytest.param([], "", id="no-messages"),
        pytest.param([{"role": "assistant", "content": "hi"}], "hi", id="one-message"),
        pytest.param([{"content": "hi"}], "hi", id="message-without-role"),
        pytest.param([{"role": "assistant", "content": None}], "", id="tool-calls-only"),
        pytest.param([{"role": "assistant"}], "", id="message-without-content"),
        pytest.param(
            [
                {"role": "assistant", "content": "let me look"},
                {"role": "tool", "content": "42"},
                {"role": "assistant", "content": "hi"},
                {"role": "tool", "content": "43"},
            ],
            "hi",
            id="last-of-the-assistant",
        ),
        pytest.param([{"role": "user", "content": "hi"}], "", id="nothing-of-the-assistant"),
        pytest.param(
            [{"role": "assistant", "content": [{"type": "text", "text": "h"}, {"text": "i"}]}],
            "hi",
            id="content-in-parts",
        ),
        pytest.param([{"content": [{"type": "image"}, {"text": None}]}], "", id="parts-no-text"),
    ],
)
def test_completion_text(completion: object, text: str) -> None:
    assert completion_text(completion) == text


@pytest.mark.parametrize(
    "completion",
    [None, 13, 1.5, b"13", {"content": "13"}, ["13"], [None], [{"content": 13}], [[GOOD]], {"13"}],
    ids=repr,
)
def test_what_no_model_makes_is_a_type_error(completion: object) -> None:
    for function in CLASSIC.values():
        with pytest.raises(TypeError, match="completion 1: expected a text or a list of messages"):
            function(prompts=["q"] * 2, completions=[GOOD, completion], answer=["13"] * 2)


@pytest.mark.parametrize("completions", [GOOD, b"13"], ids=["str", "bytes"])
def test_one_completion_instead_of_a_list_is_a_type_error(completions: str | bytes) -> None:
    for function in CLASSIC.values():
        with pytest.raises(TypeError, match="expected a list of completions"):
            function(prompts=["q"], completions=completions, answer=["13"])


@pytest.mark.parametrize("text", hostile_texts(100_000).values(), ids=hostile_texts(1_000))
def test_hostile_completions_score_within_the_range(text: str) -> None:
    for score, most in zip(all_five(text), (2.0, 0.5, 0.5, 0.5, 0.5), strict=True):
        assert 0.0 <= score <= most


def _random_text(draw: random.Random) -> str:
    parts = [*TAGS, *TAGS, "\n", "\n", " ", "13", "14", "x", "1,300", "-", ".", "\u200b", "１３"]
    if draw.random() < 0.5:
        return "".join(draw.choices(parts, k=draw.randrange(16)))
    pieces = RIGHT.replace("GOLD", "13").split("\n")
    pieces.insert(draw.randrange(len(pieces)), draw.choice(parts))
    return "\n".join(pieces)


def test_laws_of_the_scores_on_random_texts(draw: random.Random) -> None:
    for _ in range(5_000):
        text = _random_text(draw)
        correct, whole, strict, soft, count = all_five(text)
        assert correct in (0.0, 2.0), text
        assert whole in (0.0, 0.5), text
        assert strict <= soft, text
        assert 0.0 <= count <= 0.5, text
        assert correct == 0.0 or parse(text).answer, text
        assert not soft or count > 0.0, text


TAILS = ["so", " the end" * 100, "\n13", f"{OPEN}x{CLOSE}", OPEN, *TAGS, f"{ANSWER}13{END}", GOOD]


def test_writing_on_after_an_answer_never_pays(draw: random.Random) -> None:
    answered = 0
    for _ in range(20_000):
        text, tail = _random_text(draw), draw.choice(TAILS)
        if parse(text).answer is not None:
            answered += 1
            assert sum(all_five(text + tail)) < sum(all_five(text)) + 1e-12, (text, tail)
    assert answered > 1000


def test_longer_reasoning_costs_nothing(examples: list[Example]) -> None:
    for example in examples:
        for times in (1, 100):
            text = render((example.solution + "\n") * times, example.gold)
            assert all_five(text, example.gold) == [2.0, 0.5, 0.5, 0.5, 0.5]


Function = Callable[..., list[float]]


@pytest.mark.parametrize("function", CLASSIC.values(), ids=CLASSIC)
def test_scores_do_not_depend_on_the_neighbours(function: Function, draw: random.Random) -> None:
    texts = [_random_text(draw) for _ in range(200)]
    together = function(prompts=texts, completions=texts, answer=["13"] * 200)
    alone = [function(prompts=[t], completions=[t], answer=["13"])[0] for t in texts]
    assert together == alone

import random
from decimal import Decimal

import pytest

from xmlgrpo_rewards.hacks import hostile_texts
from xmlgrpo_rewards.numbers import MAX_NUMBER_CHARS, last_number, parse_number
from xmlgrpo_rewards.reply import render

WHOLE_NUMBERS = [
    pytest.param("18", "18", id="digits"),
    pytest.param(" \n18\t", "18", id="white-space-around"),
    pytest.param("\u00a018\u2003", "18", id="unicode-white-space-around"),
    pytest.param("0", "0", id="zero"),
    pytest.param("-0", "0", id="minus-zero"),
    pytest.param("007", "7", id="leading-zeros"),
    pytest.param("-18", "-18", id="minus"),
    pytest.param("+18", "18", id="plus"),
    pytest.param("−18", "-18", id="unicode-minus"),
    pytest.param("18.0", "18", id="18.0-is-18"),
    pytest.param("18.50", "18.5", id="decimals"),
    pytest.param(".5", "0.5", id="bare-decimal"),
    pytest.param("-.5", "-0.5", id="minus-bare-decimal"),
    pytest.param("18.", "18", id="final-full-stop"),
    pytest.param("18.5.", "18.5", id="decimals-and-final-full-stop"),
    pytest.param("1,234", "1234", id="thousands-comma"),
    pytest.param("12,345,678", "12345678", id="two-thousands-commas"),
    pytest.param("1,234.56", "1234.56", id="thousands-comma-and-decimals"),
    pytest.param("$18", "18", id="dollar"),
    pytest.param("$ 18", "18", id="dollar-space"),
    pytest.param("$18.00", "18", id="dollars-and-cents"),
    pytest.param("$1,234.", "1234", id="dollar-comma-full-stop"),
    pytest.param("18 €", "18", id="euro-after"),
    pytest.param("18€.", "18", id="euro-after-then-full-stop"),
    pytest.param("£18", "18", id="pound"),
    pytest.param("¥18", "18", id="yen"),
    pytest.param("-$3", "-3", id="minus-dollar"),
    pytest.param("$-3", "-3", id="dollar-minus"),
    pytest.param("−$1,000.5", "-1000.5", id="everything-at-once"),
    pytest.param("9" * MAX_NUMBER_CHARS, "9" * MAX_NUMBER_CHARS, id="longest"),
]

NOT_WHOLE_NUMBERS = [
    pytest.param("", id="empty"),
    pytest.param("   ", id="white-space"),
    pytest.param(".", id="full-stop"),
    pytest.param("-", id="minus-alone"),
    pytest.param("$", id="dollar-alone"),
    pytest.param("$.", id="dollar-full-stop"),
    pytest.param("eighteen", id="word"),
    pytest.param("4 apples", id="4-apples"),
    pytest.param("apples 4", id="apples-4"),
    pytest.param("50%", id="50-percent"),
    pytest.param("1/2", id="one-half"),
    pytest.param("1 1/2", id="one-and-a-half"),
    pytest.param("½", id="half-character"),
    pytest.param("1e3", id="exponent"),
    pytest.param("1E3", id="exponent-upper-case"),
    pytest.param("1e999", id="exponent-beyond-float"),
    pytest.param("1e9999999", id="exponent-beyond-decimal"),
    pytest.param("0x12", id="hexadecimal"),
    pytest.param("0b1", id="binary"),
    pytest.param("1_000", id="underscore"),
    pytest.param("1 000", id="space-inside"),
    pytest.param("1'000", id="apostrophe-inside"),
    pytest.param("1,00", id="comma-two-digits"),
    pytest.param("1,2345", id="comma-four-digits"),
    pytest.param("1234,567", id="comma-after-four-digits"),
    pytest.param("12,34,567", id="indian-grouping"),
    pytest.param("0,123", id="comma-after-zero"),
    pytest.param(",123", id="comma-first"),
    pytest.param("1,,234", id="two-commas"),
    pytest.param("1,234,", id="comma-last"),
    pytest.param("1.234.567", id="full-stops-as-thousands"),
    pytest.param("1.234,56", id="german-writing"),
    pytest.param("18..", id="two-full-stops"),
    pytest.param("18,", id="comma-after"),
    pytest.param("18!", id="exclamation-mark"),
    pytest.param("18?", id="question-mark"),
    pytest.param("٣", id="arabic-indic-digit"),
    pytest.param("１８", id="full-width-digits"),
    pytest.param("²", id="superscript-two"),
    pytest.param("𝟏𝟖", id="bold-math-digits"),
    pytest.param("十八", id="chinese-numeral"),
    pytest.param("18\u200b", id="zero-width-space-after"),
    pytest.param("1\u200b8", id="zero-width-space-inside"),
    pytest.param("\u202e81", id="right-to-left-override"),
    pytest.param("\ufeff18", id="byte-order-mark"),
    pytest.param("18\x00", id="nul"),
    pytest.param("17\n18", id="two-lines"),
    pytest.param("17 18", id="two-numbers"),
    pytest.param("10-3", id="difference"),
    pytest.param("--3", id="two-signs"),
    pytest.param("-$-3", id="sign-on-both-sides-of-the-dollar"),
    pytest.param("- 3", id="sign-and-space"),
    pytest.param("–3", id="en-dash"),
    pytest.param("(3)", id="brackets"),
    pytest.param("$3$", id="latex"),
    pytest.param("$$3", id="two-dollars"),
    pytest.param("3-", id="sign-after"),
    pytest.param("**18**", id="bold"),
    pytest.param("#### 18", id="hash-marks"),
    pytest.param("\\boxed{18}", id="boxed"),
    pytest.param("nan", id="nan"),
    pytest.param("sNaN", id="signalling-nan"),
    pytest.param("inf", id="inf"),
    pytest.param("-Infinity", id="infinity"),
    pytest.param("None", id="none"),
    pytest.param("True", id="true"),
    pytest.param("9" * (MAX_NUMBER_CHARS + 1), id="one-digit-too-long"),
    pytest.param("9" * 4301, id="4301-digits"),
    pytest.param("0" * 100_000 + "18", id="100-kB-of-zeros"),
]

LAST_NUMBERS = [
    pytest.param("18", "18", id="alone"),
    pytest.param("It is 18. Hope this helps.", "18", id="text-after"),
    pytest.param("18...", "18", id="18-and-dots"),
    pytest.param("$18.00", "18", id="dollars-and-cents"),
    pytest.param("1,234", "1234", id="thousands"),
    pytest.param("She has 1,234, I think.", "1234", id="comma-after"),
    pytest.param("First 3, then 18", "18", id="the-last-of-two"),
    pytest.param("3, 18", "18", id="list-with-spaces"),
    pytest.param("a,18", "18", id="comma-before"),
    pytest.param("Well...18", "18", id="dots-before"),
    pytest.param("." * 500 + "18" + "." * 500, "18", id="many-dots"),
    pytest.param("10-3", "3", id="10-3-is-3"),
    pytest.param("5-10 apples", "10", id="range"),
    pytest.param("x-3", "3", id="minus-after-a-letter"),
    pytest.param("(1+2)-3", "3", id="minus-after-a-bracket"),
    pytest.param("10 - 3", "3", id="difference-with-spaces"),
    pytest.param("costs--3", "3", id="dash"),
    pytest.param("= -3", "-3", id="sign-after-a-space"),
    pytest.param("=-3", "-3", id="sign-after-an-equals-sign"),
    pytest.param("答案是-3", "-3", id="sign-after-chinese"),
    pytest.param("−3", "-3", id="unicode-minus"),
    pytest.param("-$3", "-3", id="minus-dollar"),
    pytest.param("$-3", "-3", id="dollar-minus"),
    pytest.param("US$3", "3", id="us-dollar"),
    pytest.param("+3", "3", id="plus"),
    pytest.param("50%", "50", id="50-percent-is-50"),
    pytest.param("18km", "18", id="unit-after"),
    pytest.param("共21元。", "21", id="chinese-around"),
    pytest.param("\\boxed{18}", "18", id="boxed"),
    pytest.param("$18$", "18", id="latex"),
    pytest.param("**18**", "18", id="bold"),
    pytest.param("#### 18", "18", id="hash-marks"),
    pytest.param("#18", "18", id="number-sign"),
    pytest.param("x=18;", "18", id="equation"),
    pytest.param("48/2=24", "24", id="sum"),
    pytest.param("Answer:18", "18", id="colon-after-a-letter"),
    pytest.param(".5", "0.5", id="bare-decimal-alone"),
    pytest.param("Answer: .5", "0.5", id="bare-decimal"),
    pytest.param("=-.5", "-0.5", id="minus-bare-decimal"),
    pytest.param("No.5", "5", id="full-stop-after-a-letter"),
    pytest.param("18.5.", "18.5", id="decimals-and-full-stop"),
    pytest.param("007", "7", id="leading-zeros"),
    pytest.param("<answer>\n18\n</answer>", "18", id="tagged"),
    pytest.param("words " * 20_000 + "18" + " words" * 20_000, "18", id="240-kB-of-words"),
]

NO_LAST_NUMBER = [
    pytest.param("", id="empty"),
    pytest.param("no idea", id="words"),
    pytest.param("eighteen", id="number-in-words"),
    pytest.param("3/4", id="3/4-is-not-4"),
    pytest.param("at 10:30", id="time"),
    pytest.param("1,00", id="decimal-comma"),
    pytest.param("3,18", id="list-without-spaces"),
    pytest.param("12,34,567", id="indian-grouping"),
    pytest.param("1.2.3", id="version"),
    pytest.param("18...19", id="dots-between"),
    pytest.param("1e3", id="exponent"),
    pytest.param("H2", id="letter-before"),
    pytest.param("v1.2", id="letter-before-decimals"),
    pytest.param("n_2", id="underscore-before"),
    pytest.param("5²", id="superscript-after"),
    pytest.param("5½", id="half-after"),
    pytest.param("3千", id="chinese-thousand-after"),
    pytest.param("１8", id="full-width-digit-before"),
    pytest.param("٣", id="arabic-indic-digit"),
    pytest.param("18 or １９", id="the-last-digits-are-full-width"),
    pytest.param("9" * (MAX_NUMBER_CHARS + 1), id="too-long"),
    pytest.param("9" * 100_000, id="100-kB-of-digits"),
    pytest.param("9," * 50_000, id="100-kB-of-digits-and-commas"),
]


@pytest.mark.parametrize(("text", "expected"), WHOLE_NUMBERS)
def test_parse_number_reads(text: str, expected: str) -> None:
    assert parse_number(text) == Decimal(expected)


@pytest.mark.parametrize("text", NOT_WHOLE_NUMBERS)
def test_parse_number_refuses(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(("text", "expected"), LAST_NUMBERS)
def test_last_number_reads(text: str, expected: str) -> None:
    assert last_number(text) == Decimal(expected)


@pytest.mark.parametrize("text", NO_LAST_NUMBER)
def test_last_number_refuses(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(("text", "expected"), WHOLE_NUMBERS)
def test_what_strict_reads_lenient_reads_the_same(text: str, expected: str) -> None:
    assert last_number(render("Worked out.", text)) == Decimal(expected)


def test_the_two_readers_agree_on_random_texts(draw: random.Random) -> None:
    read = 0
    for _ in range(20_000):
        text = "".join(
            draw.choices("0123456789,.-+−$€ ", weights=[*[2] * 10, 3, 3, 1, 1, 1, 1, 1, 1], k=6)
        )
        number = parse_number(text)
        if number is not None:
            read += 1
            assert last_number(render("Worked out.", text)) == number, text
    assert read > 1000


@pytest.mark.parametrize("text", hostile_texts(2_000).values(), ids=hostile_texts(1_000))
def test_numbers_stay_small(text: str) -> None:
    for number in (parse_number(text), last_number(text)):
        assert number is None or len(f"{number:f}") <= MAX_NUMBER_CHARS + 1

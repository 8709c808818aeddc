r"""How people and models write numbers: `last_number` reads them whole, or not at all.

A piece of a number that is taken for it makes a right reply wrong, or a wrong one right.
"""

import string
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmlgrpo_rewards.numbers import MAX_NUMBER_CHARS, last_number, parse_number

# form -> what it says; None where reading it would be a guess, a piece or an earlier number
FORMS: dict[str, dict[str, str | None]] = {
    "thousands": {
        "1,234": "1234",
        "1,234,567.89": "1234567.89",
        "12,345 people": "12345",
        "1{,}234": "1234",
        r"$\boxed{1{,}234}$": "1234",
        "12{,}345{,}678": "12345678",
        r"$1\,234$": "1234",
        r"1\,234\,567": "1234567",
        r"1\ 234": "1234",
        r"1\;234": "1234",
        r"1\!234": "1234",
        r"1\thinspace 234": "1234",
        "1\u00a0234": "1234",
        "1\u202f234": "1234",
        "1\u2009234,5": None,
        "1\u2007234.5": "1234.5",
        "1'234": "1234",
        "1’234’567": "1234567",
        "1 234": None,
        "12 345 678": None,
        "1 234.50": None,
        "1.234.567": None,
        "1.234,56": None,
        "1_234": None,
        "1٬234": None,
        "1，234": None,
        "1·234": None,
        "12,34,567": None,
        "1,2345": None,
        r"1\,23": None,
        "5'10": None,
        "2023 18": "18",
        "100 200 3": "3",
        "room 5 12": "12",
    },
    "decimals": {
        ".5": "0.5",
        "is .5": "0.5",
        "0.50": "0.5",
        "18.0": "18",
        "3.14.": "3.14",
        "3,5": None,
        "0٫5": None,
        "18．5": None,
        "3·5": None,
        ".5.5": None,
        "is .5.5": None,
        ".1,234": None,
        "1.2.3": None,
        "3 point 5": None,
        "0.3\u0305": None,
        "Well...18.5": "18.5",
        "答案是.5": "0.5",
        "No.5": "5",
        "(a).5": None,
    },
    "fractions and ratios": {
        r"$\frac{3}{4}$": None,
        r"\dfrac{3}{4}": None,
        r"\tfrac{1}{2}": None,
        r"\frac34": None,
        r"\frac 3 4": None,
        r"\frac{x}{2}": None,
        r"1\frac{1}{2}": None,
        r"3 \over 4": None,
        r"3 \div 4": None,
        "3/4": None,
        "3 / 4": None,
        "3/ 4": None,
        "3⁄4": None,
        "3∕4": None,
        "3÷4": None,
        "1 1/2": None,
        "48/$2": None,
        "(1+2)/3": None,
        "(1 + 2) / 3": None,
        "50%/2": None,
        "5½": None,
        "5 ½": None,
        "3:4": None,
        "3 : 4": None,
        "3∶4": None,
        "3 out of 4": None,
        "3 over 4": None,
        "36 divided by 2": None,
        "36除以2": None,
        "5分之3": None,
        "百分之50": "50",
        "3 fifths": None,
        "18 fifth graders": "18",
        "3 and a half": None,
        "3 and three quarters": None,
        "3个半小时": None,
        "每个18元半价": "18",
        "48/2=24": "24",
        "3/4 = 0.75": "0.75",
        "Step 3: 18": "18",
        "答案：18": "18",
        "18/hour": "18",
        r"\frac{3}{4} of 24 is 18": "18",
    },
    "powers, roots and functions": {
        "10^3": None,
        "10^{3}": None,
        "10^(3)": None,
        "10^{-3}": None,
        "1.5 x 10^-3": None,
        r"1.5 \times 10^{6}": None,
        "1.5×10³": None,
        "2**10": None,
        "2 ** 10": None,
        "2**-3": None,
        "(2)**3": None,
        "x^2": None,
        "2^n": None,
        "2**n": None,
        "5²": None,
        "√16": None,
        r"\sqrt{16}": None,
        r"\sqrt[3]{27}": None,
        r"\log_2 8": None,
        "sqrt(16)": None,
        "10^3 = 1000": "1000",
        r"\sqrt{16} = 4": "4",
        "2 to the power of 10": None,
        "10的3次方": None,
        "3的平方": None,
        "18平方米": "18",
        "3 squared": None,
        "10<sup>3</sup>": None,
        "18π": None,
        r"18\pi": None,
        r"3\sqrt{x}": None,
        r"\approx18": "18",
        r"\pi2": None,
        "**18**": "18",
        "_18_": "18",
        "**_18_**": "18",
        "(in dollars) **18**": "18",
        r"18^\circ": "18",
        r"18^{\circ}C": "18",
    },
    "scientific notation": {
        "1e3": None,
        "1E3": None,
        "1.5e-3": None,
        "1.5E+3": None,
        "2e−3": None,
        "1,5e-3": None,
        "9.99e99": None,
    },
    "units": {
        "18km": "18",
        "18 cm": "18",
        "18 cm²": "18",
        "18 cm^2": None,
        "18 m2": None,
        "18 m^{2}": None,
        r"18\text{ km}": "18",
        r"18 \mathrm{cm}^3": None,
        "18°C": "18",
        "18°30": None,
        "18个苹果": "18",
        "3 hours and 30 minutes": None,
        "3h 30m": None,
        "1小时30分钟": None,
        "2 years and 6 months": None,
        "5 feet 10 inches": None,
        "18 dollars and 50 cents": None,
        "$18 and 50 cents": None,
        "3 hours = 180 minutes": "180",
        "1小时走30公里": "30",
        "3 lakh": None,
        "18k": None,
        "$18K": None,
        "$2.5M": None,
        "3 million": None,
        "3-million": None,
        "2 hundred": None,
        "two thousand 3 hundred": None,
        "2 dozen": None,
        "3千": None,
        "3 万元": None,
        "3\u00a0million": None,
        "18 kg": "18",
        "18 minutes": "18",
    },
    "currencies and signs": {
        r"-\$18": "-18",
        r"$-\$18$": "-18",
        r"\$18": "18",
        r"\$1{,}234.50": "1234.5",
        "-₹18": "-18",
        "₹18": "18",
        "-€18": "-18",
        "€-18": "-18",
        "18 €": "18",
        "18€": "18",
        "US$18": "18",
        "-US$18": "-18",
        "USD 18": "18",
        "-USD 18": "-18",
        "USD18": None,
        "￥18": "18",
        "$18-$20": "20",
        "-18": "-18",
        "(-18)": "-18",
        "−18": "-18",
        "= -18": "-18",
        "x = - 18": "-18",
        "x = - $18": "-18",
        "10 - 3": "3",
        "- 18 apples": "18",
        "- **18** apples": "18",
        "is –18": None,
        "= – 18": None,
        "is ‑18": None,
        "word—18": "18",
        "minus 18": None,
        "negative $18": None,
        "负18": None,
        "零下18": None,
        "18 degrees below zero": None,
        "18°C below zero": None,
        "18 below average": "18",
        "18 +/- 2": None,
        "±18": None,
        "-(18)": None,
        r"-\boxed{18}": "-18",
        "-**18**": None,
    },
    "other scripts": {
        "１８": None,
        "１8": None,
        "18 or １９": None,
        "१८": None,
        "١٨": None,
        "18 (१८)": None,
        "𝟏𝟖": None,
        "18, 即十八": "18",
        "共18元。": "18",
        "答案是-3": "-3",
        "α2": None,
        "é3": None,
        "у3": None,
    },
    "times, dates, versions": {
        "10:30": None,
        "10:30:15": None,
        "10：30": None,
        "at 7 pm": "7",
        "2026-05-18": None,
        "18/05/2026": None,
        "18.05.2026": None,
        "2026年5月18日": None,
        "10点30分": None,
        "3元50": None,
        "May 18": "18",
        "May 18, 2026": "2026",
        "v1.2": None,
        "192.168.0.1": None,
    },
    "percentages": {"50%": "50", r"50\%": "50", "50 %": "50", "12.5%": "12.5", "50 percent": "50"},
    "ranges": {"5-10": "10", "5–10": "10", "5 to 10": "10", "5~10": None, "$5-$10": "10"},
    "lists": {
        "3, 18": "18",
        "3 and 18": "18",
        "[3, 18]": "18",
        "3; 18": "18",
        "3、18": "18",
        "3,18": None,
        "3，18": None,
        "1) 3\n2) 18": "18",
        "17\n18": "18",
    },
    "characters that do not show": {
        "1\u200b8": None,
        "1\u00ad234": None,
        "1\x008": None,
        "1\ufe0f\u20e38\ufe0f\u20e3": None,
        "\u202e81": None,
        "1\u2060,\u2060234": None,
        "18\u200b": "18",
    },
    "marks that only say how it looks": {
        "1&nbsp;234": "1234",
        "1&#8239;234": "1234",
        "1&comma;234": "1234",
        "<b>1</b>,234": "1234",
        "1<br>234": "234",
        "3</td><td>4": "4",
        r"1\text{,}234": "1234",
        r"1{,}\!234": "1234",
        r"1\:234": "1234",
        "1{}234": "1234",
        "1‘234": "1234",
        "1\u3000234": "1234",
        "1\u200a23": None,
        "**1**,**234**": None,
        "1**8**": None,
        "$1$$8$": None,
        r"\boxed{1}\boxed{8}": None,
        r"\text{Answer: }18": "18",
        r"\text{total}\boxed{18}": "18",
        r"$\frac{3}{\text{4}}$": None,
        r"\frac{3}{\mathbf{4}}": None,
        r"\frac{3}4": None,
        r"\frac{\$3}{\$4}": None,
        r"x = \left(18\right)": "18",
        r"10^{\text{3}}": None,
        r"10\textsuperscript{3}": None,
        "10<SUP class='a'>-3</SUP>": None,
        r"\overline{3}": None,
        r"0.\overline{3}": None,
        "0.(3)": None,
        "**3** million": None,
        r"3\text{ million}": None,
        "-&#36;3": "-3",
        "&minus;3": "-3",
        "1&#1": None,
        r"-\text{18}": "-18",
    },
    "marks and words in between": {
        "x/2": None,
        "(3)/(4)": None,
        "$3$/$4$": None,
        "3 // 4": None,
        r"3\/4": None,
        "3 mod 4": None,
        "3꞉4": None,
        "2^{a+3}": None,
        "10^**3**": None,
        "10↑3": None,
        "1.5e–3": None,
        "1.5 E-3": None,
        "1.5×10⁻³": None,
        "3 e 18": "18",
        "18 m·s-1": None,
        "18 cm**2": None,
        "∛8": None,
        "√(16)": None,
        "sqrt 16": None,
        "arctan 1": None,
        "log10(100)": None,
        "‒3": None,
        "⁻3": None,
        "-\u200b3": None,
        "=--3": None,
        "negative **3**": None,
        "MINUS 3": None,
        "минус 3": None,
        "마이너스 3": None,
        "-Rs. 3": None,
        "-CHF 3": None,
        "-₡3": "-3",
        "1 ,234": None,
        "1 .5": None,
        "3 quadrillion": None,
        "3 Millionen": None,
        "3 млн": None,
        "3만": None,
        "3 twelfths": None,
        "3 months": "3",
        "3 mm": "3",
        "3 milliliters": "3",
        "3 kg 500 g": None,
        "3 km 500 m": None,
        "3 pounds and 50 pence": None,
        "5' 10": None,
        "18° 30": None,
        "3 remainder 4": None,
        "40 cm and 50 cm": "50",
        "18*pi": None,
        r"18\cdot\pi": None,
        "3 pieces": "3",
        "#3: 18": "18",
        "AT&T 18": "18",
        "a < 3 and b > 18": "18",
    },
    "words of a number at the end of the line before it": {
        **dict.fromkeys(
            ("it is $60 million\n18", "twenty\n18", "in 10h\n18", "a hundred and\n18"), "18"
        ),
        **dict.fromkeys(("so 3 thousand\n</reasoning>\n<answer>\n18\n</answer>",), "18"),
    },
    "words of a number before or after it": {
        **dict.fromkeys(
            ("3 thousand 500", "3 hundred and 5", "one hundred 18", "2 hundreds and 3"), None
        ),
        **dict.fromkeys(("twenty-5", "Twenty 5", "2만5000", "10h 30", "5 and two thirds"), None),
        **dict.fromkeys(("5-and-a-half", "5 and three fifths", "log_2 8", "+- 3"), None),
        **dict.fromkeys((r"1\hspace{2pt}234", r"1\hskip 2pt 234", r"1\kern1pt234"), None),
        r"1\textsc{,}234": "1234",
        "a country and 5": "5",
        "18 and a friend": "18",
        r"x =\hspace{2pt}18": "18",
    },
    "names": {"H2": None, "x_2": None, "x_{3}": None, "n_2": None, "#18": "18", "No. 18": "18"},
}
FORMS["blanks that do not show, and signs of other hands"] = {
    "1\u200b,234": None,
    "1\u2060,\u2060234": None,
    r"1\allowbreak 234": "1234",
    r"1\nobreak234": "1234",
    r"35 EE 24": None,
    r"35EE-3": None,
    r"75 \text{e}89": None,
    r"66{\rm e}14": None,
    r"10\^{}3": None,
    r"10 \uparrow 3": None,
    r"72km**2": None,
    r"72\text{ cm}**2": None,
    r"2\,\mathrm{m}**3": None,
    "18º 30 S": None,
    r"\lfloor 36.5 \rfloor": None,
    "⌈-36.5⌉": None,
    "|-7|": None,
    r"\lvert -7\rvert": None,
    "| total | -7 |": "-7",
    "\u200b1,234": "1234",
    r"{\rm 18}": "18",
    "**18**": "18",
    "= 18º": "18",
}
TABLE = [
    pytest.param(form, expected, id=f"{kind}: {form!r}")
    for kind, forms in FORMS.items()
    for form, expected in forms.items()
]


def test_the_table_is_as_large_as_it_says() -> None:
    assert len(TABLE) >= 350


@pytest.mark.parametrize(("form", "expected"), TABLE)
def test_a_form_is_read_whole_or_not_at_all(form: str, expected: str | None) -> None:
    assert last_number(form) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(("form", "expected"), TABLE)
@pytest.mark.parametrize("around", ["The answer is {}", "#### {}", "so it is {}\n", "答案：{}。"])
def test_in_a_sentence_it_is_never_another_number(
    form: str, expected: str | None, around: str
) -> None:
    found = last_number(around.replace("{}", form))
    assert found in (None, None if expected is None else Decimal(expected))


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    number = last_number(text)
    assert number is None or number.is_finite()
    if parse_number(text) is not None:
        assert number == parse_number(text)


PIECES = [
    *"0123456789" * 2,
    *".,-+−–/:^_{}()[]$€%*'’ \n\t\\eExX\u00a0\u202f\u200b½²３苹元千",
    "\\frac{",
]


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_what_is_made_of_numbers_and_marks_is_read_without_an_error(text: str) -> None:
    number = last_number(text)
    assert number is None or len(f"{number:f}") <= MAX_NUMBER_CHARS + 2
    if parse_number(text) is not None:
        assert number == parse_number(text)


SEPARATORS = [
    "{,}",
    r"\,",
    r"\ ",
    r"\;",
    "'",
    "’",
    "\u00a0",
    "\u202f",
    "\u2009",
    " ",
    ".",
    "_",
    "·",
]
numbers = st.integers(min_value=0, max_value=10**15)


@given(numbers, st.sampled_from(SEPARATORS), st.sampled_from(["", "-", "$", "-$", "= "]))
def test_groups_of_three_are_one_number_or_none(number: int, mark: str, before: str) -> None:
    found = last_number(before + f"{number:,}".replace(",", mark))
    signed = -number if "-" in before else number
    if mark == "." and 1000 <= number < 1_000_000:
        return  # 1.234 is a decimal here as everywhere in this module
    assert found in (None, signed)
    if number < 1000:
        assert found == signed


@given(
    numbers, st.sampled_from(["^", "^{", "^{-", "/", " / ", ":", "e-", "E+", "_{", "}{", "÷", "'"])
)
def test_a_second_half_is_never_the_number(number: int, mark: str) -> None:
    whole = f"{number % 997}{mark}{number % 89}"
    assert last_number(whole) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0, max_value=10**9))
def test_a_plain_number_is_read_whatever_letters_and_blanks_are_around(value: Decimal) -> None:
    for before in string.ascii_letters + '是=:(*#"':
        assert last_number(f"{before} {value:f} apples") == value

"""Text to number: one reading of "what number is this?" for golds, rewards and grading.

Both functions look at a bounded number of characters, ASCII digits only, and give a `Decimal`
built without exponents, so that comparing two of them is exact and cheap.  Python's own
constructors are too generous for a reward: `float` reads `1e400` (as infinity), `nan`, `1_000` and
full-width digits, `int` raises beyond 4,300 digits, and `int(Decimal("1e1000000"))` takes most of a
minute.
"""

import re
from decimal import Decimal

MAX_NUMBER_CHARS = 64
"""Longer texts are not numbers.  No sum of a school problem comes near."""

_DIGITS = r"(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)?(?:\.[0-9]+)?"
_WHOLE = re.compile(
    rf"(?P<outer>[-+−]?)(?P<prefix>[$€£¥] ?)?(?P<inner>[-+−]?)(?P<digits>{_DIGITS})"
    r"(?P<suffix> ?[$€£¥])?\.?"
)
_DIGITS_ALONE = re.compile(_DIGITS)
# What stands right before the last digits of a text: an optional sign and an optional currency.
_BEFORE = re.compile(r"(?P<outer>[-−])?(?:[$€£¥] ?)?(?P<inner>[-−])?\Z")
# A minus after one of these is an operator, a range or a dash, not a sign.
_NO_SIGN_AFTER = re.compile(r"[0-9A-Za-z_%)\]}.²³\-−]\Z")
# A full stop after one of these, or at the start of the text, begins a number: `= .5`.
_BEFORE_BARE_DECIMAL = ("", *" \t\n-−+=:>($€£¥*")


def parse_number(text: str) -> Decimal | None:
    """The number that `text` is, when the whole of it is one number, else None.

    Read: a sign (`-`, `+` or the Unicode minus `−`), thousands commas where they belong, decimals,
    a currency sign of `$ € £ ¥` before or after, a final full stop, white space around.
    `18.0` is 18, `.5` is 0.5, `007` is 7; `-$3` and `$-3` are both -3.

    Not read, since what they mean is a guess or not a number alone: `4 apples` (a unit), `50%` (50
    or 0.5), `1/2` (a sum), `1e3` and `1_000` (a programmer's writing), `1,00` and `12,34` (a
    decimal comma elsewhere), `٣`, `１８` and `²` (not ASCII digits), `nan`, `infinity`, `--3`,
    `$3$`, a number with characters that do not show, and anything over `MAX_NUMBER_CHARS`.
    """
    text = text.strip()
    if len(text) > MAX_NUMBER_CHARS:
        return None
    match = _WHOLE.fullmatch(text)
    if match is None or not match["digits"]:
        return None
    if (match["outer"] and match["inner"]) or (match["prefix"] and match["suffix"]):
        return None
    return _decimal(match["outer"] or match["inner"], match["digits"])


def last_number(text: str) -> Decimal | None:
    """The last number standing in `text`, for grading a reply in any format; None without one.

    The last ASCII digits of the text decide; whatever `parse_number` reads is read the same here.
    `It is 18. Hope this helps.` is 18, `18...` is 18, `$18.00` is 18, `1,234` is 1234, `50%` is 50,
    `18km` is 18.  A minus after a digit, a letter or a bracket is an operator or a range: `10-3`
    is 3, while `= -3` is -3.

    None, rather than a guess or an earlier number, when the last digits are part of something
    else: `3/4` and `10:30` (3/4 is not 4), `1,00` and `1.2.3` (not one number), `1e3` and `H2`
    (glued to a letter before them), `5²` and `5½` (a digit of another kind beside them), or a run
    of digits over `MAX_NUMBER_CHARS`.
    """
    end = max(text.rfind(digit) for digit in "0123456789") + 1
    if not end:
        return None
    window = text[max(0, end - 2 * MAX_NUMBER_CHARS) : end]
    run = window[len(window.rstrip("0123456789.,")) :]
    digits = run.lstrip(".,")
    if len(digits) > MAX_NUMBER_CHARS or not _DIGITS_ALONE.fullmatch(digits):
        return None
    before = window.removesuffix(digits)
    if _is_bare_decimal(before):
        before, digits = before[:-1], f".{digits}"
    if _is_glued(before) or text[end : end + 1].isnumeric():
        return None
    return _decimal(_sign(before), digits)


def _is_bare_decimal(before: str) -> bool:
    """Whether the full stop that ends `before` is a decimal point, as in `.5` or `-$.5`."""
    return before.endswith(".") and before[-2:-1] in _BEFORE_BARE_DECIMAL


def _is_glued(before: str) -> bool:
    last = before[-1:]
    if last in ("/", ":"):
        return before[-2:-1].isnumeric()
    return last == "_" or last.isnumeric() or (last.isascii() and last.isalpha())


def _sign(before: str) -> str:
    match = _BEFORE.search(before)
    sign = match and (match["outer"] or match["inner"])
    if not match or not sign or _NO_SIGN_AFTER.search(before[: match.start()]):
        return ""
    return sign


def _decimal(sign: str, digits: str) -> Decimal:
    minus = "-" if sign in ("-", "−") else ""
    return Decimal(minus + digits.replace(",", ""))

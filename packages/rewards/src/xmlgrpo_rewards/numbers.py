"""Text to number: one reading of "what number is this?" for golds, rewards and grading.

Both functions look at a bounded number of characters, read ASCII digits only, and give a `Decimal`
built without exponents, so that comparing two of them is exact and cheap.  Python's own
constructors are too generous for a reward: `float` reads `1e400` (as infinity), `nan`, `1_000` and
full-width digits, `int` raises beyond 4,300 digits, and `int(Decimal("1e1000000"))` takes most of a
minute.
"""

import re
import unicodedata
from decimal import Decimal

MAX_NUMBER_CHARS = 64
"""Longer texts are not numbers.  No sum of a school problem comes near."""

_DIGITS = r"(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)?(?:\.[0-9]+)?"
_WHOLE = re.compile(
    rf"(?P<outer>[-+−]?)(?P<prefix>[$€£¥] ?)?(?P<inner>[-+−]?)(?P<digits>{_DIGITS})"
    r"(?P<suffix> ?[$€£¥])?\.?"
)
_DIGITS_ALONE = re.compile(_DIGITS)


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


# --- the last number of a text ---------------------------------------------------------------

_BEFORE_CHARS = 2 * MAX_NUMBER_CHARS  # looked at, up to the end of the last digits ...
_AFTER_CHARS = 32  # ... and after it
_TAIL_CHARS = 2**14  # searched after it for digits of another script

_OTHER_DIGIT = re.compile(r"[^\D0-9]")  # a decimal digit that is not ASCII
_SPACED_SCRIPTS = (
    "LATIN",
    "GREEK",
    "CYRILLIC",
)  # words stand apart: a letter that touches is glued
_CURRENCY = "[$€£¥₩₹₽₺₫₪฿₴₦₱₿￥＄¢]"

# What typesetters put between groups of three digits becomes a comma, so that one rule judges both:
# LaTeX's `{,}` `\,` `\ ` `\;` `\!` `\thinspace`, an apostrophe, blanks that do not break a line.
_SEPARATOR = re.compile(
    r"(?<=[0-9])(?:\{,\}|\\(?:[,;! ]|thinspace\s?)|['’\u00a0\u2007\u2009\u202f])(?=[0-9])"
)
_ESCAPED_CURRENCY = re.compile(rf"\\(?={_CURRENCY})")
# A full stop right before digits begins a number, as in `= .5`, but after a letter or another full
# stop it ends something (`No.5`); after one of the third kind it may do either.
_FULL_STOP = re.compile(r"(?:(?P<ends>[A-Za-z.])|(?P<either>[)\]}%\"'”’²³]))?\.\Z")

# Right before the digits, one of these makes them a part of something else.
_PART_OF = re.compile(
    rf"""(?:
      [0-9)\]}}%²³]\ ?[/⁄∕／÷]\ ?{_CURRENCY}?[-+−]?  # a fraction, a quotient: 3/4, (1+2) / 3
    | [0-9][:∶：] | [0-9]\ [:∶：]\                     # a time, a ratio; not `Step 3: 18`
    | [0-9][eE][-+−]                                  # 1.5e-3
    | \^\s*[{{(]?\s*[-+−]?                            # a power: 10^3, 10^{{-3}}, cm^2
    | [0-9)]\*\*\(?[-+−]? | [0-9]\ \*\*\ \(?[-+−]?    # 2**10; not **18**
    | [^\s(:=*_]_{{1,2}}[{{(]?\s* | _[{{(]\s*        # x_{{3}}; not _18_
    | \}}\s*\{{ | [√±]\s*                             # {{3}}{{4}}, a root, either sign
    | \\[dtc]?frac\s*(?:[0-9]\s*)?[\s{{(]*           # \frac34, \frac 3 4
    | \\(?:over|div|pm)\b[\s{{(]*                     # 3 \over 4
    | \\(?:sqrt|binom|log|ln|sin|cos|tan|exp)(?:_\{{?\w+\}}?)?\s*(?:\[[^]]*\])?[\s{{(]*
    | \b(?:sqrt|log|ln|sin|cos|tan|exp|abs)\(\s*     # a function of the number
    | [0-9][,.'’´·˙٫٬，．~～°]                          # a separator that no rule above has read
    | [0-9][-–—−.][0-9]{{1,2}}[-–—−.]                  # a date: 2026-05-18
    | [0-9]\s?[年月点點時时分元块塊]\s?                  # 5月18日, 10点30分, 3元50
    | [0-9]\s+(?:out\ of|point|over|divided\ by)\s+  # 3 out of 4, 3 point 5
    | [0-9]\s?除以\s? | (?<!百)分之\s?                # 48除以2, 5分之3; 百分之50 is 50 %, so 50
    | \bto\ the\ power(?:\ of)?\s+ | <su[bp]>\s*     # to the power of 3, 10<sup>3</sup>
    | &\# | \+/[-−]\s*                               # &#37; is a character, +/- 3 either sign
    | (?:\b(?:[Mm]inus|[Nn]egative)\s+|[负負]\s?|零下){_CURRENCY}?   # a sign in words
    | (?:\A|[^0-9A-Za-z)\]}}.²³\-−–—])[‐‑–—﹣－]{_CURRENCY}?       # a dash that may be a sign
    | =\s*[‐‑–—﹣－]\s*{_CURRENCY}?
    | [-−](?:[*`]+|\(|\{{|\\[a-zA-Z]+\s*\{{)\s*{_CURRENCY}?       # a sign before the brackets
    )\Z""",
    re.VERBOSE,
)
_GROUP_BEFORE = re.compile(r"(?<![0-9])[0-9]{1,3} \Z")  # `1 234`: one number, or two
# Right after them, one of these says that the number goes on.
_GOES_ON = re.compile(
    r"[ \u00a0-]?(?i:hundred|thousand|million|billion|trillion|dozen|lakh|crore)"
    r"|[ \u00a0-]?(?i:(?:third|fifth|sixth|seventh|eighth|ninth|tenth)s)\b"
    r"|\s(?i:and (?:a|one|three)[ -](?:half|third|quarter|fourth))"
    r"|\s?[个個年天倍点點]半(?![价價圆圓径徑])"  # 3个半小时
    r"|\s?(?:π|√|\\pi\b|\\sqrt)"
    r"|\s?(?:的?次(?:方(?!案)|[幂冪])|的[平立]方)|\s(?i:squared|cubed)\b"
    r"|\s?(?:°\s?[CF]?|(?i:degrees?)(?:\s(?:[CF]|Celsius|Fahrenheit))?)?\s?below (?:zero|freezing)"
    r"|[ \u00a0]?[百千万萬亿億兆½⅓⅔¼¾⅕⅛⅜⅝⅞]"
    r"|\s?\^(?!\s*\{?\s*(?:\\circ|°))"  # the base of a power; degrees are none
    r"|(?:k|K|M|B|bn|mn)(?![A-Za-z])"
)
# Two numbers that are one quantity: `3 hours 30 minutes`, `1小时30分钟`, `$18 and 50 cents`.  The
# last digits stand where the NUL is.
_THEN = r"(?:,?\s+(?:and\s+)?)?\0\s?"
_TWO_UNITS = re.compile(
    rf"""[0-9]\s?(?:
      (?:hours?|hrs?|h|个?小时|個?小時){_THEN}(?:min|m\b|分)
    | (?:minutes?|mins?|m|分钟?|分鐘?){_THEN}(?:sec|s\b|秒)
    | days?{_THEN}(?:hours?|hrs?|h)\b
    | weeks?{_THEN}days?\b
    | years?{_THEN}months?\b
    | (?:feet|foot|ft){_THEN}in(?:ch|ches)?\b
    | (?:pounds?|lbs?){_THEN}(?:ounces?|oz)\b
    | (?:dollars?|euros?){_THEN}cents?\b
    )
    | {_CURRENCY}\s?[0-9]+\s+and\s+\0\s?cents?\b""",
    re.VERBOSE | re.IGNORECASE,
)
# What LaTeX writes without a blank before digits, and is no part of a number: \approx18.
_APART = re.compile(
    r"\\(?:approx|sim|simeq|equiv|to|Rightarrow|rightarrow|implies|times|cdot|q?quad|[lg]eq?|large)\Z"
)
_EMPHASIS = re.compile(r"(?:\A|[\s(:=*])__?\Z")  # markdown's _18_
_POWER_OF = re.compile(r"\*\*[A-Za-z(]")
# A sign stands right before the digits or before a currency, which may have letters: -US$3.  With a
# space after it, it counts only where nothing else can be meant.
_SIGNED = re.compile(
    rf"(?:(?P<sign>[-−])(?:[A-Z]{{1,3}}(?={_CURRENCY})|(?:USD|EUR|GBP|CNY|RMB|JPY|INR) ?)?"
    rf"|[=(]\s*(?P<apart>[-−]) )?"
    rf"(?:{_CURRENCY} ?)?(?P<inner>[-−])?\Z"
)
# A minus after one of these is an operator, a range or a dash, not a sign.
_NO_SIGN_AFTER = re.compile(r"[0-9A-Za-z_%)\]}.²³\-−]\Z")
_TURNS_ROUND = ("\u202d", "\u202e")  # what follows is shown in another order


def last_number(text: str) -> Decimal | None:
    r"""The last number standing in `text`, for grading a reply in any format; None without one.

    The last digits of the text decide; whatever `parse_number` reads is read the same here.
    `It is 18. Hope this helps.` is 18, `18...` is 18, `$18.00` is 18, `50%` is 50, `18km` is 18;
    `1,234`, `1{,}234`, `1\,234` and `1'234` are 1234, `-\$18` and `-US$18` are -18.  A minus
    after a digit, a letter or a bracket is an operator or a range: `10-3` is 3, `= -3` is -3.

    None, rather than a guess, a piece or an earlier number, when the last digits are part of
    something else: `3/4`, `\frac{3}{4}`, `10:30`, `10^3`, `18 cm^2`, `1.5e-3` (3/4 is not 4),
    `1,00` and `1.2.3` (not one number), `1 234` (one or two), `2026-05-18`, `H2` and `x_2` (glued
    to a letter), `5²`, `5½`, `3千`, `3 million` and `3π` (they go on), `3 hours 30 minutes` (two
    numbers, one quantity), `3 degrees below zero`, `–3` and `minus 3` (a sign that
    `parse_number` does not read), `\sqrt{16}`, digits of another script, characters between them
    that do not show, or more than `MAX_NUMBER_CHARS` of them.  Never raises.
    """
    end = max(text.rfind(digit) for digit in "0123456789") + 1
    if not end or _has_other_digits(text[end : end + _TAIL_CHARS]):
        return None
    before = text[max(0, end - _BEFORE_CHARS) : end]
    before = _ESCAPED_CURRENCY.sub("", _SEPARATOR.sub(",", before))
    digits = before[len(before.rstrip("0123456789.,")) :].lstrip(".,")
    if len(digits) > MAX_NUMBER_CHARS or not _DIGITS_ALONE.fullmatch(digits):
        return None
    before = before.removesuffix(digits)
    full_stop = _FULL_STOP.search(before)
    if full_stop and not full_stop["ends"]:
        if full_stop["either"] or not digits.isdigit():
            return None
        before, digits = before[:-1], f".{digits}"
    if _is_part(before, digits) or _goes_on(before, text[end : end + _AFTER_CHARS]):
        return None
    return _decimal(_sign(before), digits)


def _has_other_digits(tail: str) -> bool:
    return not tail.isascii() and _OTHER_DIGIT.search(tail) is not None


def _is_part(before: str, digits: str) -> bool:
    """Whether what stands before the last digits makes them a part of something else."""
    if any(turn in before for turn in _TURNS_ROUND):
        return True
    shown = before
    while shown and _is_unseen(shown[-1]):
        shown = shown[:-1]
    last = shown[-1:]
    if last.isnumeric() or (last == "_" and not _EMPHASIS.search(shown)):
        return True
    if _is_glued_letter(last) and not _APART.search(shown):
        return True
    if shown != before and last in (".", ","):
        return True
    if _GROUP_BEFORE.search(shown) and len(digits.partition(".")[0]) == 3:
        return True
    return _PART_OF.search(shown) is not None


def _goes_on(before: str, after: str) -> bool:
    while after and unicodedata.category(after[0]) == "Cf":
        after = after[1:]
    if after[:1].isnumeric() or _is_unseen(after[:1]):
        return True
    if _POWER_OF.match(after) and not before.endswith("**"):
        return True
    return bool(_GOES_ON.match(after) or _TWO_UNITS.search(f"{before}\0{after}"))


def _is_unseen(character: str) -> bool:
    """Whether a character has no place of its own on the screen; white space has."""
    kind = unicodedata.category(character) if character else ""
    return kind in ("Mn", "Me", "Cf") or (kind == "Cc" and not character.isspace())


def _is_glued_letter(character: str) -> bool:
    if not character.isalpha():
        return False
    return unicodedata.name(character, "").startswith(_SPACED_SCRIPTS)


def _sign(before: str) -> str:
    match = _SIGNED.search(before)
    if match is None:
        return ""
    sign = match["sign"] or match["inner"]
    if match["apart"] or (sign and not _NO_SIGN_AFTER.search(before[: match.start()])):
        return "-"
    return ""


def _decimal(sign: str, digits: str) -> Decimal:
    minus = "-" if sign in ("-", "−") else ""
    return Decimal(minus + digits.replace(",", ""))


# --- is a sum written out -----------------------------------------------------------------------

SUMS_LOOKED_AT = 128  # equals signs that are looked before: a flood of them costs no time
_LEFT_SIDE_CHARS = 20
# operands and an operator up to the equals sign, such as `12+4 `
_LEFT_SIDE = re.compile(r"\d[ ]?[-+*/x×÷][ ]?\$?\d[\d.,]{0,12}[ ]?\Z")


def is_worked(text: str) -> bool:
    """Whether `text` holds a sum with its operands and an equals sign, such as `12+4 = 16`.

    Whether the sum is right is not asked.  Never raises; bounded time on any text.
    """
    place = text.find("=")
    for _ in range(SUMS_LOOKED_AT):
        if place < 0:
            return False
        if _LEFT_SIDE.search(text[max(0, place - _LEFT_SIDE_CHARS) : place]):
            return True
        place = text.find("=", place + 1)
    return False

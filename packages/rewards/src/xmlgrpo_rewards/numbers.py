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
from html import unescape
from itertools import filterfalse

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
_SPACED_SCRIPTS = ("LATIN", "GREEK", "CYRILLIC")  # a letter of these that touches is glued
_CURRENCY = "[$¢-¥֏؋৲৳฿៛\u20a0-\u20cf﷼﹩＄￠￡￥￦💲]"

# What only says how a text looks goes first, so that the rules below judge what is left: HTML's
# tags, LaTeX's fonts, boxes, sizes and blanks.  What is raised or lowered keeps a mark of that.
_FONTS = "b|i|u|s|em|strong|span|font|code|mark|small|big|tt|wbr"
_LOOKS = (
    (re.compile(r"<sup\b[^<>]*>|\\textsuperscript\s*\{", re.IGNORECASE), "^{"),
    (re.compile(r"<sub\b[^<>]*>|\\textsubscript\s*\{", re.IGNORECASE), "_{"),
    (re.compile(r"</su[bp]>", re.IGNORECASE), "}"),
    (re.compile(rf"<!--.*?-->|</?(?:{_FONTS})\b[^<>]*>", re.IGNORECASE | re.DOTALL), ""),
    (re.compile(r"</?[A-Za-z][^<>]*>"), "\n"),
    (re.compile(r"(?<=[0-9])(?:\\(?:text\w*|math\w+)|)\{\\?([,.])\}(?=[0-9\\])"), r"\1"),
    (re.compile(r"\\(?:text(?!color)|math)[a-z]*\s*\{"), ""),
    (re.compile(r"\\(?:boxed|[fmh]box|bm|emph)\s*\{"), ""),
    (re.compile(r"\\(?:boldsymbol|underline|ensuremath|pmb)\s*\{"), ""),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-z])"), ""),
    (re.compile(r"\\(?:rm|it|bf|sf|tt)(?![a-z])\s*|\\(?:no|allow)break(?![a-z])\s*"), ""),
    (re.compile(r"(?<=[0-9]),?(?:\\(?:[,:;! ]|(?:thin|en)s(?:pace|kip)\s*)|~)+(?=[0-9])"), ","),
    (re.compile(r"\\[hm]?(?:space\*?\s*\{[^{}]*\}|(?:skip|kern)\s*[\d.]+\s*[a-z]{2})\s*"), " "),
    (re.compile(r"\\/"), "/"),
    (re.compile(r"\\[,:;! ]"), " "),
)
# What typesetters put between groups of three digits becomes a comma, so that one rule judges both:
# an apostrophe, a blank of another width, an empty group.
_SEPARATOR = re.compile(
    r"(?<=[0-9])(?:['’‘ʼ\u00a0\u2000-\u200a\u202f\u205f\u3000]|\{\s*\})(?=[0-9])"
)
_ENTITY = re.compile(r"&#?\w+;")
_ESCAPED_CURRENCY = re.compile(rf"\\(?={_CURRENCY})")
# A full stop right before digits begins a number, as in `= .5`, but after a letter or another full
# stop it ends something (`No.5`); after one of the third kind it may do either.
_FULL_STOP = re.compile(r"(?:(?P<ends>[A-Za-z.])|(?P<either>[)\]}%\"'”’²³]|[0-9]\s))?\.\Z")

_CODE = "(?:USD|EUR|GBP|CNY|RMB|JPY|INR)"
_MARKS = r"[*_`${(\[]*"  # what may stand between a sign and its number
_DASH = "[-−‐‑‒–—―⁻₋➖˗﹣－]"
_FUNCTION = "(?:sqrt|cbrt|log[0-9]*|l[gn]|exp|a?(?:rc)?(?:sin|cos|tan|cot)h?)"
# Right before the digits, one of these makes them a part of something else.
_PART_OF = re.compile(
    rf"""(?:
      [^\W_][)\]}}%²³$*`]*\s?[/⁄∕／÷]+\s?{_MARKS}{_CURRENCY}?[-+−]?  # a quotient: 3/4, (1+2) / 3
    | [)\]}}%²³$]\s?[/⁄∕／÷]+\s?{_MARKS}{_CURRENCY}?[-+−]?
    | [0-9][*`$)}}]*[:∶：꞉︰] | [0-9]\ [:∶：](?:\ )?     # a time, a ratio; not `Step 3: 18`
    | [0-9][{{}}]*[eE⏨][\s}}]?\{{?(?:{_DASH}|\+)?\}}?   # 1.5e-3
    | [0-9]\s[eE](?:\{{?(?:{_DASH}|\+)|\}}\s?)
    | [0-9]\s?EE\s?(?:{_DASH}|\+)?                     # a pocket calculator's
    | (?:[\^ˆ↑]|\\(?:hat|uparrow|textasciicircum)\b)
      \s*[{{}}(\[*`$\s]*(?:{_DASH}|\+)?\s*             # a power: 10^3, 10^{{-3}}, cm^2, 10\^{{}}3
    | [\^_](?:\{{[^{{}}]*|\([^()]*)                    # or more in it: 10^{{2+3}}, x_{{i, 3}}
    | [0-9)\]]\*\*[({{]?[-+−]? | [0-9]\ \*\*\ \(?[-+−]?   # 2**10; not **18**
    | (?<![*A-Za-z])(?:[cmk]?m|in|ft|yd)[}})]*\*\*     # cm**2
    | (?:\\l(?:floor|ceil)\b|[⌊⌈])[\s({{]*[-−]?        # rounded
    | (?:\\[lr]?[vV]ert\b\s*|\|)[-−]                   # |-3|, which is 3
    | [·⋅*/][A-Za-z]+{_DASH}                           # m·s-1
    | [^\s(:=*_]_{{1,2}}[{{(]?\s* | _[{{(]\s*        # x_{{3}}; not _18_
    | \}}\s*\{{\s* | [0-9]\}} | [√∛∜±∓][\s({{]*            # {{3}}{{4}}, a root, either sign
    | \\[a-z]*frac\s*(?:[0-9]\s*|\{{[^{{}}]*\}}\s*)?[\s{{(]*           # \frac34, \frac 3 4
    | \\(?:over|above|div|mp|pm|[bp]?mod)\b[\s{{(]*    # 3 \over 4
    | \\(?:{_FUNCTION}|binom)(?:_\{{?\w+\}}?)?\s*(?:\[[^]]*\])?[\s{{(]*[-−]?
    | \\[A-Za-z]+\*?\s*(?:\[[^][]*\]\s*|\{{[^{{}}]*\}}\s*)*\{{[^{{}}]*   # what a command takes
    | \b(?:{_FUNCTION}|sec|csc|abs)[({{]\s*[-−]?       # a function of the number
    | \b(?!exp|tan){_FUNCTION}(?:_\w+)?\s+
    | [0-9][*`_$]*[,.'][*`_$]+ | [0-9](?:\*\*|__|[`$])[*`_$]*[,.]?      # **1**,**234**, 1**8**
    | [0-9]\s[,.] | [0-9][.,](?:\(|\\[a-z]+\s*\{{?)   # 1 ,234, 0.(3)
    | [0-9][,.'’´`‘"″′ʼ·•|\\˙٫٬，．~～°]                  # a separator that no rule above has read
    | [0-9]\s?['’′°º˚]\s                               # 5' 10, 18° 30
    | [0-9][-–—−.][0-9]{{1,2}}[-–—−.]                  # a date: 2026-05-18
    | [0-9]\s?[年月点點時时分元块塊]\s?                  # 5月18日, 10点30分, 3元50
    | [0-9]h[^\S\n]+ | [0-9]\s?[천만억]\s?                    # 10h 30, 2만5000
    | (?i:hundreds?|thousands?|lakhs?|crores?|(?:[mb]|tr)illions?)
      [^\S\n]*[,-]?[^\S\n]*(?:and[^\S\n]+)?          # 3 thousand 500, on one line
    | \b(?i:twent|thirt|fort|fift|sixt|sevent|eight|ninet)y(?:[^\S\n]|-)  # twenty-5
    | [0-9]\s+(?:out\ of|point|over|divided\ by|mod(?:ulo)?|hoch|durch|h)\s+  # 3 out of 4
    | [0-9]\s+(?i:remainder|rem\.?|r\.?)\s+            # 3 remainder 4
    | [0-9]\s+(?:raised\s+)?to\s+(?:the\s+)?(?=\Z)(?<=the\ )|[0-9]\s+raised\s+to\s+
    | [0-9]\s?除以\s? | (?<!百)分之\s?                # 48除以2, 5分之3; 百分之50 is 50 %, so 50
    | \bto\ the\ power(?:\ of)?\s+                     # to the power of 3
    | &\# | \+\s?/\s?[-−]\s*                           # &#37; is a character, +/- 3 either sign
    | (?<![A-Za-z]){_DASH}[-+−] | \+{_DASH}\s?                      # two signs
    | (?i:\b(?:minus|negative|menos|moins|meno|минус|мінус|eksi|âm|سالب|ناقص|ऋण)|[负負]|零下
        |マイナス|마이너스|영하|ลบ)[-\s]*{_MARKS}{_CURRENCY}?   # a sign in words
    | (?:\A|[^0-9A-Za-z)\]}}.²³\-−–—])(?!-|−){_DASH}{_CURRENCY}?       # a dash that may be a sign
    | =\s*(?!-|−){_DASH}\s*{_CURRENCY}?
    | (?:\A|[^\w)\]}}.\-−])[-−](?!{_CODE}\s?\Z)[A-Za-z]{{1,3}}\.?\s?\}}?   # -Rs. 3
    | [-−]{_CURRENCY}\}}
    | [-−](?:[*`]+|\(|\{{|\}}|\$\$)\s*{_CURRENCY}?       # a sign before the brackets
    )\Z""",
    re.VERBOSE,
)
_GROUP_BEFORE = re.compile(r"(?<![0-9])[0-9]{1,3} \Z")  # `1 234`: one number, or two
# Right after them, one of these says that the number goes on.
_CLOSES = re.compile(r"[*_`$})\]]*")
_GOES_ON = re.compile(
    r"[^\S\n]*[-*_`]*(?i:hundred|thousand|dozen|lakh|crore|(?:[mb]|tr|quadr|quint|sext)illi(?:on|ard)"
    r"|mill?iarde?n?\b|milh[oõ]|milion|mille\b|millones|mil\b|tausend|mio\b|mrd\b|mln\b|bn\b|mn\b|k\b"
    r"|тыс|млн|млрд|мил+ион|миллиард|ribu\b|juta\b|tỷ|triệu|nghìn|लाख|करोड़|हज़ार|ألف|مليون)"
    r"|(?:ths\b|[ \u00a0-]?(?i:thirds|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|[a-z]+teen"
    r"|twentie|hundred|thousand|million)ths)\b)"
    r"|[\s-](?i:(?:and|&)[ -](?:an?|one|two|three|four|five|seven)[ -]"
    r"(?:hal(?:f|ves)|third|quarter|fourth|fifth|sixth|eighth|tenth))"
    r"|\s?[个個年天倍点點]半(?![价價圆圓径徑])"  # 3个半小时
    r"|\s?(?:[*·⋅×]|\\cdot\b|\\times\b)?\s?(?:π|√|\\pi\b|\\sqrt|pi\b|sqrt)"
    r"|\s?(?:的?次(?:方(?!案)|[幂冪])|的[平立]方|(?:の[^\W_])?乗)|\s(?i:squared|cubed)\b"
    r"|\s?(?:°\s?[CF]?|(?i:degrees?)(?:\s(?:[CF]|Celsius|Fahrenheit))?)?\s?below (?:zero|freezing)"
    r"|[ \u00a0]?[百千万萬亿億兆천만억½⅓⅔¼¾⅕⅛⅜⅝⅞]"
    r"|[⁺⁻⁽ⁿ]|\s?\^(?!\s*\{?\s*(?:\\circ|°))"  # the base of a power; degrees are none
    r"|(?:k|K|M|MM|B|T|bn|mn)(?![A-Za-z])"
)
# Two numbers that are one quantity: `3 hours 30 minutes`, `1小时30分钟`, `$18 and 50 cents`.  The
# last digits stand where the NUL is.
_THEN = r"\.?(?:,?\s+(?:and\s+)?)?\0\s?"
_UNITS = (  # of one kind, the larger before the smaller
    (r"years?|months?|weeks?|days?", r"months?\b|weeks?\b|days?\b|hours?\b|h\b"),
    (r"hours?|hrs?|h|个?小时|個?小時|stunden?", r"min|m\b|分"),
    (r"minutes?|mins?|m|分钟?|分鐘?", r"sec|s\b|秒"),
    (
        r"km|miles?|m|yards?|yd|feet|foot|ft|cm",
        r"(?:m|cm|mm|yards?|yd|feet|foot|ft|in(?:ch|ches)?)\b",
    ),
    (r"tons?|tonnes?|kg|g|stones?|pounds?|lbs?", r"(?:kg|g|mg|pounds?|lbs?|ounces?|oz)\b"),
    (r"gallons?|quarts?|pints?|l", r"(?:quarts?|pints?|cups?|ounces?|oz|ml)\b"),
    (r"dollars?|euros?|pounds?|rupees?", r"(?:cents?|pence|paise)\b"),
    (r"tens?|dozens?", r"ones?\b|more\b"),
)
_TWO_UNITS = re.compile(
    "[0-9]\\s?(?:"
    + "|".join(
        rf"(?P<unit{place}>{large}){_THEN}(?!(?P=unit{place})\b)(?:{small})"  # not the same again
        for place, (large, small) in enumerate(_UNITS)
    )
    + rf")|{_CURRENCY}\s?[0-9]+\s+and\s+\0\s?(?:cents?|pence)\b|[0-9]\s+dozen\s+and\s+\0",
    re.IGNORECASE,
)
# What LaTeX writes without a blank before digits, and is no part of a number: \approx18.
_APART = re.compile(
    r"\\(?:approx|sim|simeq|equiv|to|Rightarrow|rightarrow|implies|times|cdot|q?quad|[lg]eq?|large)\Z"
)
_A_DASH = re.compile(_DASH)
_EMPHASIS = re.compile(r"(?:\A|[\s(:=*])__?\Z")  # markdown's _18_
_POWER_OF = re.compile(r"\*\*[A-Za-z(]")
# A sign stands right before the digits or before a currency, which may have letters: -US$3.  With a
# space after it, it counts only where nothing else can be meant.
_SIGNED = re.compile(
    rf"(?:(?P<sign>[-−])(?:[A-Z]{{1,3}}(?={_CURRENCY})|{_CODE} ?)?"
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
    before = _plain(text[max(0, end - _BEFORE_CHARS) : end])
    digits = before[len(before.rstrip("0123456789.,")) :].lstrip(".,")
    if not 0 < len(digits) <= MAX_NUMBER_CHARS or not _DIGITS_ALONE.fullmatch(digits):
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


def _plain(text: str) -> str:
    """The text without what only says how it looks; what parts groups of digits is a comma."""
    text = _ENTITY.sub(lambda entity: unescape(entity[0]), text)
    for looks, plain in _LOOKS:
        text = looks.sub(plain, text)
    return _ESCAPED_CURRENCY.sub("", _SEPARATOR.sub(",", text))


def _has_other_digits(tail: str) -> bool:
    return not tail.isascii() and _OTHER_DIGIT.search(tail) is not None


def _is_part(before: str, digits: str) -> bool:
    """Whether what stands before the last digits makes them a part of something else."""
    if any(turn in before for turn in _TURNS_ROUND):
        return True
    shown = before if before.isprintable() else "".join(filterfalse(_is_unseen, before))
    last = shown[-1:]
    if last.isnumeric() or (last == "_" and not _EMPHASIS.search(shown)):
        return True
    if _is_glued_letter(last) and not _APART.search(shown):
        return True
    if _is_unseen(before[-1:]) and (last in (".", ",") or _A_DASH.match(last)):
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
    after = _plain(after)
    closed = _CLOSES.match(after)
    return bool(
        _GOES_ON.match(after, closed.end() if closed else 0)
        or _TWO_UNITS.search(f"{before}\0{after}")
    )


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

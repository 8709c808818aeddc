"""Is a sum written out in a reply, or was the answer blurted?"""

import re

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

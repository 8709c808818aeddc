"""Completions made to cost time, of any length: for the benchmark, the tests and your own grader.

Each is a text that some plausible parser reads in quadratic time or worse: many half matches of a
tag or of a number, long runs of one character, everything right but for the end.
"""

from xmlgrpo_rewards.reply import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    REASONING_CLOSE,
    REASONING_OPEN,
    TAGS,
    render,
)


def hostile_texts(length: int) -> dict[str, str]:
    """Name -> text of exactly `length` characters."""

    def filled(part: str, before: str = "", after: str = "") -> str:
        room = length - len(before) - len(after)
        return before + (part * (room // len(part) + 1))[:room] + after

    reply = render("16 - 3 = 13", "13")
    inside = f"{REASONING_OPEN}\n"
    answered = f"\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n13\n{ANSWER_CLOSE}"
    opened = f"{REASONING_OPEN}\nx\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n"
    return {
        "newlines": filled("\n"),
        "spaces": filled(" "),
        "one letter": filled("a"),
        "chinese": filled("苹果"),
        "emoji": filled("😀"),
        "zero width": filled("\u200b"),
        "less-than signs": filled("<"),
        "closing starts": filled("</"),
        "half tags": filled(ANSWER_OPEN[:-1]),
        "half closing tags": filled(REASONING_CLOSE[:-1]),
        "tag spam, each": filled("".join(TAGS)),
        "tag spam, opening": filled(ANSWER_OPEN),
        "tag spam, closing": filled(ANSWER_CLOSE),
        "strict starts": filled(f"{REASONING_OPEN}\n\n{REASONING_CLOSE}\n{ANSWER_OPEN}\n"),
        "digits": filled("7"),
        "digits and commas": filled("7,"),
        "thousands": filled(",777", before="777"),
        "minus signs": filled("-"),
        "currency signs": filled("$", after="7"),
        "full stops": filled(".", after="7"),
        "numbers": filled("18 "),
        "fraction chain": filled("3/"),
        "equals signs": filled("="),
        "sums without an end": filled("1+1.1,1.1,1.1"),
        "sums one too long": filled("1+1111111111111111="),
        "full-width digits": filled("１", before="7"),
        "combining marks": filled("\u0305", before="7"),
        "zero width before a digit": filled("\u200b", after="7"),
        "opening braces": filled("{", after="7"),
        "long reasoning": filled("16 - 3 = 13\n", before=inside, after=answered),
        "newlines in reasoning": filled("\n", before=inside, after=answered),
        "zero width in reasoning": filled("\u200b", before=inside, after=answered),
        "half tags in reasoning": filled("</reason", before=inside, after=answered),
        "digits in answer": filled("7", before=opened, after=f"\n{ANSWER_CLOSE}"),
        "commas in answer": filled("7,", before=opened, after=f"\n{ANSWER_CLOSE}"),
        "newlines in answer": filled("\n", before=opened, after=f"13\n{ANSWER_CLOSE}"),
        "zero width in answer": filled("\u200b", before=opened, after=f"\n{ANSWER_CLOSE}"),
        "answer never closed": filled("13\n", before=opened),
        "newlines before": filled("\n", after=reply),
        "newlines between": filled(
            "\n",
            before=f"{REASONING_OPEN}\nx\n{REASONING_CLOSE}",
            after=f"{ANSWER_OPEN}\n13\n{ANSWER_CLOSE}",
        ),
        "newlines after": filled("\n", before=reply),
        "words before": filled("so it is ", after=reply),
        "words after": filled("so it is ", before=reply),
        "closing tags after": filled(ANSWER_CLOSE, before=reply),
    }

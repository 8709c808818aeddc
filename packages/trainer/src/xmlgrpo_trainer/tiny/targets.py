"""What the warm start shows the model: one problem's answer in four kinds.

Worked or guessed, in the reply format or in GSM8K's plain style.  Both habits have to be in the
model before GRPO can prefer one of them; which one pays is left for the rewards to say.
"""

import re

from xmlgrpo_rewards.reply import render

_CALCULATOR_NOTE = re.compile(r"<<[^>]*>>")


def target(answer: str, *, worked: bool, tagged: bool) -> str:
    """One of the four kinds of answer to a problem.

    Args:
        answer: the solution in GSM8K's style, ending in `#### 16`.
        worked: whether the steps are shown, or only a number is blurted out.
        tagged: whether it stands in the reply format, or ends in `#### 16`.
    """
    steps, number = _CALCULATOR_NOTE.sub("", answer).rsplit("\n#### ", 1)
    if tagged:
        return render(steps if worked else f"I think it is {number}.", number)
    return f"{steps}\n#### {number}" if worked else f"#### {number}"

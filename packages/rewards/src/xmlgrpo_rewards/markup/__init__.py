"""What a reader may see of a text in HTML, Markdown or LaTeX, whichever it is."""

from xmlgrpo_rewards.markup.page import MARKS as MARKS_OF_A_PAGE
from xmlgrpo_rewards.markup.page import shown
from xmlgrpo_rewards.markup.tex import printed

MARKS = MARKS_OF_A_PAGE + "\\%"  # what markup begins with that may leave a word unseen


def rendered(text: str) -> str:
    """The text without what a page or a typesetter would not show."""
    return printed(shown(text))

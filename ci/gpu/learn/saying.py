"""How the curriculum's problems say numbers."""

from xmlgrpo_trainer.tiny.story import Story

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}
PERCENTAGES = (10, 20, 25, 50, 75)


def say(story: Story, number: int) -> str:
    """A number in digits, and now and then a small one in words."""
    return WORDS[number] if number < len(WORDS) and story.rng.random() < 0.3 else str(number)

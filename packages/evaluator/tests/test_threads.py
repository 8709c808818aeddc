import pytest

from xmlgrpo_evaluator.threads import fastest_thread_count, idle_cores


def measured(seconds: dict[int, float], most: int) -> int:
    """Choose among steps that take the given time, on a clock that only they move."""
    now = [0.0]

    def step(threads: int) -> None:
        now[0] += seconds[threads]

    return fastest_thread_count(step, most=most, clock=lambda: now[0])


@pytest.mark.parametrize(
    ("seconds", "most", "chosen"),
    [
        pytest.param({1: 1.0, 2: 10.0}, 2, 1, id="a-busy-core-makes-threads-slower"),
        pytest.param({1: 1.0, 2: 0.95}, 2, 1, id="a-gain-within-the-noise"),
        pytest.param({1: 1.0, 2: 0.55}, 2, 2, id="two-pay"),
        pytest.param({1: 1.0, 2: 0.6, 4: 0.35, 6: 0.34}, 6, 4, id="more-than-four-do-not-pay"),
        pytest.param({1: 1.0}, 1, 1, id="one-core"),
    ],
)
def test_the_fastest_is_chosen_and_never_a_slower_one(seconds, most, chosen):
    assert measured(seconds, most) == chosen


def test_there_is_always_a_core():
    assert idle_cores() >= 1

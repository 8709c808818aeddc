"""The panels of a run's curves."""

from typing import Any

import pytest

from xmlgrpo_rewards.task import Words
from xmlgrpo_run.screen.curves import Ink, draw, panels, reward_name, together
from xmlgrpo_run.screen.metric_names import metric_names, words_of

RISING = [(n, n / 10) for n in range(10)]
NEAR = [(n, n / 10 + 0.01) for n in range(10)]
FAR = [(n, n / 10 + (0.2 if n == 5 else 0)) for n in range(10)]


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        pytest.param({"a": RISING, "b": NEAR}, [["a", "b"]], id="near-everywhere"),
        pytest.param({"a": RISING, "b": FAR}, [["a"], ["b"]], id="one-step-apart"),
        pytest.param({"a": RISING, "b": RISING[:-1]}, [["a"], ["b"]], id="other-steps"),
        pytest.param({"a": RISING, "b": FAR, "c": NEAR}, [["a", "c"], ["b"]], id="not-neighbours"),
    ],
)
def test_lines_that_lie_on_one_another_are_one(lines: Any, labels: list[list[str]]) -> None:
    assert [names for names, _ in together(lines, 1.0)] == labels


def test_equal_rewards_in_a_panel_without_a_range_are_one() -> None:
    assert together({"a": [(1, 0.5)], "b": [(1, 0.5)]}) == [(["a", "b"], [(1, 0.5)])]


def test_only_what_was_logged_has_a_panel() -> None:
    rows: list[dict[str, Any]] = [
        {"step": 0, "validation/strict_accuracy": 0.1},
        {"step": 1, "reward": None, "rewards/mine:fits_reward_func/mean": 0.5, "kl": True},
    ]
    drawn = {panel.title: [line.label for line in panel.lines] for panel in panels(rows, Words())}
    assert drawn == {
        "Reward of sampled completions": ["fits"],
        "Validation problems, answered greedily": ["strict accuracy (form and answer)"],
    }


def test_the_task_gives_the_words() -> None:
    row: dict[str, Any] = {"step": 1, "sampled/worked": 0.5, "sampled/lenient": 0.5}
    labels = [line.label for panel in panels([row], words_of("gsm8k")) for line in panel.lines]
    assert labels == ["worked out (a sum is written)", "lenient accuracy (number, any form)"]
    labels = [line.label for panel in panels([row], words_of("unknown")) for line in panel.lines]
    assert labels == ["lenient accuracy (answer, any form)"]
    assert "worked" not in metric_names(Words())


def test_legends_lie_outside_of_what_is_drawn() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    rows = [{"step": n, "reward": n, "rewards/a/mean": 9 - n, "kl": n} for n in range(9)]
    figure = figures.Figure(layout="constrained")
    drawn = panels(rows, Words())
    draw(figure, rows, drawn, Ink())
    figure.canvas.draw()
    places = figure.axes
    assert [place.get_title(loc="left") for place in places] == [panel.title for panel in drawn]
    legends = [(place, place.get_legend()) for place in places if place.get_legend()]
    assert len(legends) == 1
    for place, legend in legends:
        assert legend.get_window_extent().y1 < place.get_window_extent().y0


def test_reward_names() -> None:
    assert reward_name("rewards/strict_format_reward_func/mean") == "strict format"
    assert reward_name("correctness_reward_func") == "correctness"
    assert reward_name("my.module:fits_reward_func") == "fits"


def test_long_labels_leave_room_for_what_is_drawn() -> None:
    """Warnings are errors here, and matplotlib warns where a legend crowds out its panel."""
    figures = pytest.importorskip("matplotlib.figure")
    names = [f"rewards/a_reward_with_a_long_name_{n}/mean" for n in range(9)]
    rows = [{"step": n, **dict.fromkeys(names, 0.5)} for n in range(3)]
    figure = figures.Figure(layout="constrained")
    draw(figure, rows, panels(rows, Words()), Ink())
    figure.canvas.draw()
    place = figure.axes[0]
    assert place.get_legend().get_window_extent().x1 <= figure.bbox.x1 / 2

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lm_eval.api.instance import Instance
from rich.cells import cell_len
from rich.console import Console

from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_evaluator.screen.live import Live, Stages, final_line, live_line
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.interval import Share


@contextmanager
def listening(out: io.StringIO, label: str) -> Iterator[Live]:
    console = Console(file=out, width=100)
    with Stages(console) as stages:
        yield Live(stages, console, label, quiet=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            (1, 100, Share(1, 1), "27", "27"),
            "[001/100] ✅=1 | Acc=100.00% | Pred: 27 | GT: 27",
            id="first-of-a-hundred",
        ),
        pytest.param(
            (3, 1319, Share(1, 3), None, "18"),
            "[0003/1319] ✅=1 | Acc=33.33% | Pred: none | GT: 18",
            id="no-answer",
        ),
        pytest.param(
            (2, 4, Share(0, 2), "a\nb\x1b[31m", "x"),
            "[002/004] ✅=0 | Acc=0.00% | Pred: a b�[31m | GT: x",
            id="control-characters-of-an-answer",
        ),
    ],
)
def test_live_line(arguments, expected):
    assert live_line(*arguments) == expected


@pytest.mark.parametrize("answer", ["2" * 300, "日本" * 100], ids=["digits", "wide"])
def test_a_long_answer_is_cut_to_the_screen(answer):
    line = live_line(1319, 1319, Share(1000, 1319), answer, answer, columns=80)
    assert 70 <= cell_len(line) <= 80
    assert line.startswith("[1319/1319] ✅=1000 | Acc=75.82% | Pred: ")


def test_final_line():
    assert final_line(Share(88, 100)) == (
        "Final accuracy: 88.00% (88/100), 95% interval 80.2% to 93.0%"
    )


def test_a_pipe_gets_plain_lines():
    out = io.StringIO()
    doc = {"task": "gsm8k", "gold": "5", "user_text": "How many?"}
    requests = [Instance("generate_until", doc, ("p", {}), 0) for _ in range(2)]
    with listening(out, "tuned") as live:
        live.begin(requests)
        for text in (reply.render("2+3", "5"), "[bold]no[/] idea"):
            live(requests[0], CountedReply(text, tokens=4, truncated=False))
    assert out.getvalue().splitlines() == [
        "[001/002] ✅=1 | Acc=100.00% | Pred: 5 | GT: 5",
        "[002/002] ✅=1 | Acc=50.00% | Pred: none | GT: 5",
    ]


def test_a_right_answer_outside_the_form_does_not_count():
    out = io.StringIO()
    doc = {"task": "gsm8k", "gold": "5", "user_text": "?"}
    request = Instance("generate_until", doc, ("p", {}), 0)
    with listening(out, "m") as live:
        live.begin([request])
        live(request, CountedReply("It is 5", tokens=3, truncated=False))
    assert out.getvalue() == "[001/001] ✅=0 | Acc=0.00% | Pred: 5 | GT: 5\n"


def test_items_of_stock_tasks_do_not_count_as_wrong():
    out = io.StringIO()
    ours = Instance(
        "generate_until", {"task": "gsm8k", "gold": "5", "user_text": "?"}, ("p", {}), 0
    )
    stock = Instance("generate_until", {"question": "?"}, ("q", {}), 0)
    with listening(out, "m") as live:
        live.begin([ours, stock])
        live(stock, CountedReply("5", tokens=1, truncated=False))
        live(ours, CountedReply(reply.render("x", "5"), tokens=1, truncated=False))
    assert out.getvalue() == "[002/002] ✅=1 | Acc=100.00% | Pred: 5 | GT: 5\n"


def test_replies_that_an_engine_has_finished_and_not_told_move_the_bar():
    out, waiting = io.StringIO(), 3
    doc = {"task": "gsm8k", "gold": "5", "user_text": "?"}
    request = Instance("generate_until", doc, ("p", {}), 0)
    with Stages(Console(file=out, width=100)) as stages:
        live = Live(
            stages, Console(file=out, width=100), "m", quiet=True, unreported=lambda: waiting
        )
        live.begin([request] * 8)
        assert stages.shown.figures().startswith("3/8 items")
        waiting = 0
        live(request, CountedReply("It is 5", tokens=3, truncated=False))
        assert stages.shown.figures().startswith("1/8 items")

import io
from contextlib import closing

import pytest
from lm_eval.api.instance import Instance
from rich.cells import cell_len
from rich.console import Console

from xmlgrpo_evaluator.journal import CountedReply
from xmlgrpo_evaluator.progress import Screen, final_line, live_line
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.screen import progress

DOC = {"task": "gsm8k", "id": "test-0", "question": "How many?", "gold": "5", "solution": ""}
DOC |= {"judge": "", "user_text": "How many?"}


@pytest.fixture(autouse=True)
def _only_replies_speak(monkeypatch):
    """Between two replies a slow machine has a stage print lines of its own; here none does."""
    monkeypatch.setattr(progress, "FIRST_LINE_S", 3600.0)


def shown(*replies: tuple[dict[str, str], str]) -> list[str]:
    """The lines of a screen that gets these replies."""
    out = io.StringIO()
    requests = [Instance("generate_until", doc, ("p", {}), 0) for doc, _ in replies]
    with closing(Screen(Console(file=out, width=100), "tuned", quiet=False)) as screen:
        screen.begin(requests)
        for request, (_, text) in zip(requests, replies, strict=True):
            screen.reply(request, CountedReply(text, tokens=4, truncated=False))
    return out.getvalue().splitlines()


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
            (3, 9, Share(1, 3), "SELECT 1", "SELECT 2", "error: no such table"),
            "[003/009] ✅=1 | Acc=33.33% | Pred: SELECT 1 | GT: SELECT 2 | error: no such table",
            id="why-it-is-wrong",
        ),
        pytest.param(
            (2, 4, Share(0, 2), "a\nb\x1b[31m", "x"),
            "[002/004] ✅=0 | Acc=0.00% | Pred: a b�[31m | GT: x",
            id="control-characters-of-an-answer",
        ),
    ],
)
def test_live_line(arguments, expected):
    *shown, note = arguments if len(arguments) == 6 else (*arguments, "")
    assert live_line(*shown, note=note) == expected


@pytest.mark.parametrize("answer", ["2" * 300, "日本" * 100], ids=["digits", "wide"])
def test_a_long_answer_is_cut_to_the_screen(answer):
    line = live_line(1319, 1319, Share(1000, 1319), answer, answer, columns=80)
    assert 70 <= cell_len(line) <= 80
    assert line.startswith("[1319/1319] ✅=1000 | Acc=75.82% | Pred: ")


def test_final_line():
    assert final_line(Share(88, 100)) == (
        "Final accuracy: 88.00% (88/100), 95% interval 80.2% to 93.0%"
    )


FIVE = reply.render("2+3", "5")


@pytest.mark.parametrize(
    ("replies", "lines"),
    [
        pytest.param(
            [(DOC, FIVE), (DOC, "[bold]no[/] idea")],
            [
                "[001/002] ✅=1 | Acc=100.00% | Pred: 5 | GT: 5",
                "[002/002] ✅=1 | Acc=50.00% | Pred: none | GT: 5",
            ],
            id="plain-lines-into-a-pipe",
        ),
        pytest.param(
            [(DOC, "It is 5")],
            ["[001/001] ✅=0 | Acc=0.00% | Pred: 5 | GT: 5 | right, other form"],
            id="a-right-answer-outside-the-form-does-not-count",
        ),
        pytest.param(
            [({"question": "?"}, "5"), (DOC, FIVE)],
            ["[002/002] ✅=1 | Acc=100.00% | Pred: 5 | GT: 5"],
            id="items-of-stock-tasks-do-not-count-as-wrong",
        ),
    ],
)
def test_a_line_per_item(replies, lines):
    assert shown(*replies) == lines


def test_sampled_replies_stand_beside_the_bar_and_do_not_count_among_the_greedy_ones():
    out = io.StringIO()
    options = [{}, {"do_sample": True}, {"do_sample": True}, {}]
    requests = [Instance("generate_until", DOC, ("p", each), 0) for each in options]
    with closing(Screen(Console(file=out, width=100), "m", quiet=False)) as screen:
        screen.begin(requests)
        for request, text in zip(requests, ("6", FIVE, "6", FIVE), strict=True):
            screen.reply(request, CountedReply(text, tokens=3, truncated=False))
        assert screen.shown is not None
        assert screen.shown.figures().startswith("4/4 replies")
        assert screen.shown.figures().endswith("sampled 50.0% right")
    assert out.getvalue().splitlines() == [
        "[001/002] ✅=0 | Acc=0.00% | Pred: 6 | GT: 5",
        "[002/002] ✅=1 | Acc=50.00% | Pred: 5 | GT: 5",
    ]


def test_replies_that_an_engine_has_finished_and_not_handed_on_move_the_bar():
    waiting = 3
    request = Instance("generate_until", DOC, ("p", {}), 0)
    with closing(Screen(Console(file=io.StringIO(), width=100), "m", quiet=True)) as screen:
        screen.begin([request] * 8, lambda: waiting)
        assert screen.shown is not None
        assert screen.shown.figures().startswith("3/8 items")
        waiting = 0
        screen.reply(request, CountedReply("It is 5", tokens=3, truncated=False))
        assert screen.shown.figures().startswith("1/8 items")


def test_speed_counts_new_replies_only():
    request = Instance("generate_until", DOC, ("p", {}), 0)
    with closing(Screen(Console(file=io.StringIO()), "m", quiet=True)) as screen:
        assert screen.speed()["tokens_per_s"] is None
        screen.begin([request] * 2)
        screen.reply(request, CountedReply("5", tokens=3, truncated=False), new=False)
        screen.reply(request, CountedReply("5", tokens=4, truncated=False))
        assert screen.speed()["reply_tokens"] == 4

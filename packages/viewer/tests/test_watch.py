import io
import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from xmlgrpo_run.folder import RunFolder
from xmlgrpo_viewer.reading.paid import Paid
from xmlgrpo_viewer.reading.run_view import read_run
from xmlgrpo_viewer.watch.command import watch
from xmlgrpo_viewer.watch.screen import READINGS, plain_line, screen, sparkline

from .conftest import begin, held, write_lines


def drawn(run, columns=80, rows=24, paid=None):
    console = Console(file=io.StringIO(), width=columns, height=rows, force_terminal=True)
    with console.capture() as shown:
        console.print(screen(read_run(run), columns, rows, paid))
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.get()).rstrip("\n").split("\n")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (120, 50), (60, 20)])
def test_the_screen_fits_its_terminal(training, columns, rows):
    lines = drawn(training, columns, rows)
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert "step 6 of 10" in lines[0]
    with held(training):
        head = drawn(training, columns, rows)[0]
    assert len(head) <= columns
    assert head.startswith("sums training step 6 of 10")
    assert head.endswith("(Ctrl-C leaves)"), "and only of a run that trains"
    assert "Ctrl-C" not in lines[0]


def test_it_says_what_the_doctor_finds_and_where_held_out_accuracy_is(training):
    text = "\n".join(drawn(training))
    assert "0.0% to 75.0% [40.9%, 92.9%] at 6" in text
    assert "paid int 0.18, correctness 0.18" in text
    assert "2.00 s a step, 50 tokens/s" in text
    assert "✗✓✓ right" in text, "how each validation ended, of one problem"


def test_all_there_is_to_say_has_room(training):
    """On 24 rows: three findings, a gamed reward, every reading, three problems."""
    rows = [
        {**dict.fromkeys(READINGS, 0.9), "entropy": 0.001, "step": n, "time": 2.0 * n}
        | {"rewards/correctness_reward_func/mean": 1.0, "step_time": 2.0, "peak_mib": 800.0}
        | {"grad_norm": 50.0, "validation/strict_accuracy": 0.5}
        for n in range(1, 60)
    ]
    write_lines(training.metrics, rows)
    paid = Paid(9, 9, 2.0, 2.0, 2.0, 9, {})
    lines = drawn(training, 80, 24, paid)
    assert len(lines) <= 23, "the line under it is the next command's"
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "wrong answers are paid: 9 of 9 wrong completions (100%)" in text
    assert text.count("replied") == 3
    assert all(label in text for label, _ in READINGS.values())
    assert [text.count(f"\n{what}: ") for what in ("signal", "length", "entropy")] == [1, 1, 1]


def test_a_training_that_has_written_nothing_yet_is_watched(tmp_path):
    run = RunFolder(tmp_path / "new")
    with held(run):
        run.require_something()
        watch(run, once=True)
        assert "training" in run.report.read_text()
        # nothing else on the screen says that it is alive
        assert re.search(r"no step yet at \d\d:\d\d:\d\d \(Ctrl-C leaves\)", drawn(run)[0])


def test_hostile_replies_do_not_reach_the_terminal(tmp_path):
    from xmlgrpo_run.files import write_sealed

    from .conftest import answers

    run = begin(tmp_path / "x")
    reply = "\x1b]0;title\x07[bold]\u202eten\r\nlines\n" * 30
    write_sealed(run.validation(6), answers(6, [False] * 8, reply=reply))
    lines = drawn(run)
    assert len(lines) <= 24
    assert not re.search("[\x07\x1b\r\u202e]", "\n".join(lines))
    assert "[bold]" in "\n".join(lines)


def test_a_look_writes_the_page_and_ends_with_a_run_that_is_over(run, capsys):
    watch(run, once=False)
    assert run.report.is_file()
    printed = capsys.readouterr().out
    assert "finished, step 6 of 60" in printed
    assert "held out 75.0% [40.9%, 92.9%] at step 6" in printed.replace("\n", " ")


def test_a_page_that_cannot_be_written_ends_no_look(training, capsys, monkeypatch):
    def refused(path, _text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("xmlgrpo_run.files.write_text", refused)
    watch(training, once=False)
    printed = capsys.readouterr().out.replace("\n", " ")
    assert "stopped, step 6 of 10" in printed
    assert re.search(r"no page was written: .*report\.html: Permission denied", printed)


def test_a_look_at_a_run_that_trains_is_one_with_once(training, capsys):
    with held(training):
        watch(training, once=True)
    assert "training, step 6 of 10" in capsys.readouterr().out
    assert "data-refresh" in training.report.read_text()


def test_a_run_without_a_step_has_a_screen(tmp_path):
    run = begin(tmp_path / "x", steps=0)
    run.validation(0).unlink()
    assert "no validation yet" in "\n".join(drawn(run))
    assert plain_line(read_run(run)) == "x: stopped, step 0 of 10"


@pytest.mark.parametrize(
    ("values", "columns", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([5, 5, 5], 8, "▁▁▁"),
        ([0, 0, 10, 10], 2, "▁█"),
        ([], 5, ""),
    ],
)
def test_a_sparkline_is_of_means(values, columns, line):
    assert sparkline(values, columns) == line


TYPED_MEANWHILE = """
import termios
from xmlgrpo_viewer.watch.command import unseen_keys
with unseen_keys():
    print("ready", flush=True)
    input()
print("after", bool(termios.tcgetattr(0)[3] & termios.ECHO), flush=True)
"""


def test_what_is_typed_while_a_run_is_watched_is_not_shown():
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", f"import os; os.setsid(); os.open({os.ttyname(theirs)!r}, 2)\n"]
    words[-1] += f"os.tcsetpgrp(0, os.getpgrp())\n{TYPED_MEANWHILE}"
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        while b"ready" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"secret words\n")
        while b"True" not in shown and b"False" not in shown:
            shown += os.read(ours, 1000)
    os.close(ours)
    assert child.returncode == 0, shown
    assert b"secret" not in shown
    assert b"after True" in shown

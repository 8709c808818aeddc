"""`xmlgrpo-watch`: a run beside its training, at a terminal and as a page that is written again."""

import argparse
import os
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from xmlgrpo_rewards.console_script import add_version, kept_on_interrupt, run_command
from xmlgrpo_run.folder import RunFolder, find_run

SCREEN_S = 2.0  # between two looks at the folder, where there is a terminal
LINE_S = 9.0  # between two lines in a pipe
TIMES = 9  # what a look takes, there is between two: the training needs the processor


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="xmlgrpo-watch",
        description="Watch a run: a screen that follows its training, and report.html in its "
        "folder, written again every half minute. It ends with the run; Ctrl-C ends it before, "
        "and the training goes on.",
    )
    add_version(made)
    made.add_argument(
        "--run", required=True, metavar="RUN", help="its folder, or its name under outputs/"
    )
    made.add_argument("--once", action="store_true", help="look once, and end")
    return made


def main() -> None:
    """Entry point of the console script."""
    run_command(run)


def run() -> None:
    """Parse the command line, watch."""
    arguments = parser().parse_args()
    folder = find_run(arguments.run)
    with kept_on_interrupt("the training goes on; the same command watches again"):
        watch(folder, once=arguments.once)


@contextmanager
def unseen_keys() -> Iterator[None]:
    """What is typed meanwhile is not shown, which would move the screen that is drawn over."""
    keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
    # a job in the background may not change its terminal: the system would stop it
    if keys is None or os.tcgetpgrp(keys) != os.getpgrp():
        yield
        return
    before = termios.tcgetattr(keys)
    unseen = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(keys, termios.TCSANOW, unseen)
    try:
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSAFLUSH, before)  # nor is it left for the shell


def watch(run: RunFolder, *, once: bool) -> None:
    """Show a run until it is finished or has stopped."""
    from rich.live import Live
    from rich.markup import escape

    from xmlgrpo_rewards.errors import UserError
    from xmlgrpo_run.files import write_text
    from xmlgrpo_run.screen.console import make_console
    from xmlgrpo_run.screen.say import say
    from xmlgrpo_viewer.page.report import REFRESH_S, render
    from xmlgrpo_viewer.reading.paid import Paid, paid_for
    from xmlgrpo_viewer.reading.run_view import read_run
    from xmlgrpo_viewer.reading.sampled import read_sampled
    from xmlgrpo_viewer.watch.screen import plain_line, screen

    console = make_console()
    is_screen = console.is_terminal and not console.is_dumb_terminal
    written_s = -float(REFRESH_S)
    paid: Paid | None = None
    where = ""
    with (
        unseen_keys(),
        Live(console=console, auto_refresh=False, screen=False, transient=False) as live,
    ):
        while True:
            began_s = time.monotonic()
            view = read_run(run)
            is_over = once or view.state != "training"
            if is_over or began_s - written_s >= REFRESH_S:
                written_s = began_s
                paid = paid_for(read_sampled(view)[0], view.weights)
                try:
                    write_text(run.report, render(view))
                    where = f"the page is {run.report}"
                except UserError as error:
                    where = f"no page was written: {error}"
                except OSError as error:  # as of another's run, which is looked at
                    where = f"no page was written: {run.report}: {error.strerror}"
            if is_screen:
                live.update(screen(view, console.width, console.height, paid), refresh=True)
            else:
                say(console, plain_line(view))
            if is_over:
                break
            took_s = time.monotonic() - began_s
            time.sleep(max(SCREEN_S if is_screen else LINE_S, TIMES * took_s))
    say(console, escape(where))


if __name__ == "__main__":
    main()

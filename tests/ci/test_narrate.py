"""What set-up says while pip works: how far it is, in lines of their own where nothing is drawn."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.setup import narrate

ROOT = Path(__file__).resolve().parents[2]
NARRATE = ROOT / "ci" / "setup" / "narrate.py"


def packages(site: Path, count: int) -> None:
    for number in range(count):
        (site / f"package{number}.dist-info").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("lines", "unpacked", "words"),
    [
        pytest.param([], 0, "the locked packages, 0:00:20 so far", id="nothing-yet"),
        pytest.param(
            ["Installing collected packages: a, b, c, d"],
            0,
            "0/4 packages unpacked, 0:00:20 so far",
            id="none-unpacked",
        ),
        pytest.param(
            ["Installing collected packages: a, b, c, d"],
            1,
            "1/4 packages unpacked, 0:00:20 so far, left 0:01:00",
            id="one-unpacked",
        ),
        pytest.param(
            ["Installing collected packages: a"],
            3,
            "1/1 packages unpacked, 0:00:20 so far, left 0:00:00",
            id="more-than-foreseen",
        ),
        pytest.param(
            ["  [1/40] Building C object", "  [10/40] Building CXX object"],
            0,
            "10/40 files compiled, 0:00:20 so far, left 0:01:00",
            id="compiling",
        ),
    ],
)
def test_how_far_it_is(
    *,
    lines: list[str],
    unpacked: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state = narrate.State("the locked packages", tmp_path / "site", tmp_path / "tmp")
    for line in lines:
        state.read(line)
    packages(tmp_path / "site", unpacked)
    now = 120.0
    assert state.shown() == words


def test_what_is_downloaded_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    (tmp_path / "tmp" / "pip-unpack").mkdir(parents=True)
    (tmp_path / "tmp" / "pip-unpack" / "torch.whl").write_bytes(b"\0" * 2_500_000)
    state = narrate.State("the locked packages", tmp_path / "site", tmp_path / "tmp")
    assert state.shown() == "the locked packages, 2 MB downloaded, 0:00:00 so far"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "drawn"), [("xterm", "\r\x1b[2K  1/4 packages\r\x1b[2Kdone\n"), ("dumb", None)]
)
def test_a_state_is_written_over_on_a_terminal_only(
    term: str, drawn: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    out = Terminal()
    screen = narrate.Screen(out)
    screen.state("1/4 packages")
    screen.say("done")
    assert out.getvalue() == (drawn or "  1/4 packages\ndone\n")


def test_errors_and_large_downloads_are_shown_and_all_is_logged(tmp_path: Path) -> None:
    said = "\n".join(
        [
            "Collecting torch==2.13.0",
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (203.4 MB)",
            "  Downloading https://an-index.org/whl/torch-2.13.0%2Bcpu-cp311.whl (190.1 MB)",
            "  Downloading small-1.0-py3.whl (12 kB)",
            "ERROR: No matching distribution found for torch==2.13.0",
            "ERROR: Operation cancelled by user",
        ]
    )
    log = tmp_path / "setup.log"
    told = subprocess.run(
        [sys.executable, NARRATE, "the locked packages", "--log", log],
        input=said,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout == "  torch 2.13.0 (203.4 MB)\n  torch 2.13.0+cpu (190.1 MB)\n"
    assert told.stderr == "ERROR: No matching distribution found for torch==2.13.0\n"
    assert log.read_text() == said


def test_silence_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(narrate.EVERY_S, False, 0.05)
    source, writing = os.pipe()
    state = narrate.State("the locked packages", tmp_path, tmp_path)

    class Out(io.StringIO):
        def flush(self) -> None:
            if self.getvalue().count("\n") == 2:
                pip.close()  # it ends

    out = Out()
    with (tmp_path / "log").open("wb") as log, os.fdopen(writing, "wb", buffering=0) as pip:
        pip.write(b"begun\n")
        narrate.follow(source, log, state, narrate.Screen(out))
    os.close(source)
    line = r"  the locked packages, \d:\d\d:\d\d so far\n"
    assert re.fullmatch(line * 2, out.getvalue())

import argparse
import errno
import importlib
import os
import py_compile
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xmlgrpo_rewards.console_script import (
    LARGEST_SEED,
    Terminated,
    interruption,
    kept_on_interrupt,
    refuse_tokens,
    run_command,
    seed_argument,
    within,
)
from xmlgrpo_rewards.errors import UserError


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """`run_command` ends a process; what it does to signals ends with the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def raise_(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("result", "code"), [(None, 0), (0, 0), (1, 1)], ids=["none", "zero", "one"]
)
def test_the_exit_code_is_what_the_command_returned(result: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(lambda: result)
    assert left.value.code == code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(UserError("no such run"), 2, "error: no such run\n", id="user-error"),
        pytest.param(KeyboardInterrupt(), 130, "interrupted: what was finished", id="ctrl-c"),
        pytest.param(Terminated(), 143, "terminated: what was finished", id="sigterm"),
        pytest.param(
            interruption(signal.SIGINT, "all is kept"), 130, "interrupted: all is", id="kept"
        ),
        pytest.param(
            interruption(signal.SIGTERM, "all is kept"), 143, "terminated: all is", id="kept-too"
        ),
        pytest.param(
            OSError(errno.ENOSPC, "No space left on device", "outputs/a/metrics.jsonl"),
            2,
            "error: outputs/a/metrics.jsonl: No space left on device; what was finished before is",
            id="disk-full",
        ),
        pytest.param(
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            2,
            "error: the output folder: Disk quota exceeded; what was finished before is kept. Free",
            id="over-quota",
        ),
        pytest.param(
            PermissionError(errno.EACCES, "Permission denied", "outputs/a/report.html"),
            2,
            "error: outputs/a/report.html: Permission denied; name a place that you may use",
            id="forbidden",
        ),
        pytest.param(
            OSError(errno.EIO, "Input/output error"),
            2,
            "error: the output folder: Input/output error; the disk failed, what was finished",
            id="disk-fails",
        ),
        pytest.param(
            IsADirectoryError(errno.EISDIR, "Is a directory", "outputs/a/config.yaml"),
            2,
            "error: outputs/a/config.yaml: Is a directory; put back what stood there before",
            id="a-folder-in-its-place",
        ),
        pytest.param(
            FileExistsError(errno.EEXIST, "File exists", "outputs"),
            2,
            "error: outputs: File exists; it is no folder, move it away or name another place",
            id="a-file-in-a-folders-place",
        ),
        pytest.param(
            OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5_000),
            2,
            f"error: {'a' * 200}: File name too long; name a place that you may use",
            id="name-too-long",
        ),
        pytest.param(
            type("PanicException", (BaseException,), {})("Onig: retry-limit-in-match over"),
            2,
            "error: a library gave up: Onig: retry-limit-in-match over; is the model's folder",
            id="rust-panics",
        ),
    ],
)
def test_what_the_user_can_correct_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(lambda: raise_(error))
    printed = capsys.readouterr()
    assert left.value.code == code
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_ctrl_c_says_what_the_innermost_block_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        with kept_on_interrupt("files are kept"):
            with kept_on_interrupt("nothing is kept"):
                pass
            with kept_on_interrupt("400 of 1,400 steps are kept; the same command goes on"):
                raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 130
    told = "interrupted: 400 of 1,400 steps are kept; the same command goes on\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_tidied_up_after(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    tidied = []

    def command() -> int:
        try:
            with kept_on_interrupt("step 3 is kept"):
                os.kill(os.getpid(), number)
                time.sleep(10)
        finally:
            tidied.append(True)
        return 0

    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 128 + number
    assert capsys.readouterr().err.endswith("ed: step 3 is kept\n")
    assert tidied == [True]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_import_that_drops_a_signal_is_no_bug(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = f"""import os
try:
    os.kill(os.getpid(), {int(number)})
except KeyboardInterrupt:
    pass
raise RuntimeError("half of it is there")
"""
    (tmp_path / "drops_a_signal.py").write_text(broken, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as left:
        run_command(lambda: bool(importlib.import_module("drops_a_signal")))
    assert left.value.code == code


@pytest.mark.parametrize("is_lazy", [False, True])
@pytest.mark.parametrize("length", [0, 16, 40, -1])
def test_compiled_python_that_was_cut_short_is_removed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    length: int,
    is_lazy: bool,
) -> None:
    source = tmp_path / "half_written.py"
    source.write_text("value = [1, 2, 3]\n" * 9)
    compiled = Path(py_compile.compile(str(source), doraise=True) or "")
    whole = compiled.read_bytes()
    compiled.write_bytes(whole[:length])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, source.stem, raising=False)

    def command() -> int:
        try:
            importlib.import_module(source.stem)
        except Exception as error:
            if is_lazy:
                raise RuntimeError("half_written could not be imported") from error
            raise
        return 0

    with pytest.raises(SystemExit) as left:
        run_command(command)
    if length == 0:  # Python itself compiles again what has no header
        assert left.value.code == 0
        return
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {compiled}: what Python compiled was cut")
    assert not compiled.exists()
    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 0


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "gone")], ids=repr)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        run_command(lambda: raise_(error))
    assert raised.value is error


def test_a_reader_that_has_gone_is_no_error() -> None:
    program = (
        "from xmlgrpo_rewards.console_script import run_command\n"
        "run_command(lambda: [print('line') for _ in range(200_000)] and 0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline() == b"line\n"
        started.stdout.close()
        assert started.stderr.read() == b""
    assert started.returncode == 0


ENDS = """
import atexit, time
from xmlgrpo_rewards.console_script import run_command

def tidy_up():
    print("tidies up", flush=True)
    time.sleep(60)

atexit.register(tidy_up)
run_command(lambda: 0)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_tidy_up_is_no_traceback(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDS], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        assert started.stdout.readline() == b"tidies up\n"
        started.send_signal(number)
        assert started.stderr.read() == b""
    assert started.returncode == -number


PRINTS = {
    "a-result": "run_command(lambda: print('line'))",
    "much": "run_command(lambda: [print('line') for _ in range(200_000)] and 0)",
    "help": "from argparse import ArgumentParser as P; run_command(lambda: P().parse_args(['-h']))",
}


@pytest.mark.parametrize("program", PRINTS.values(), ids=PRINTS)
def test_a_full_standard_output_is_one_sentence(program: str) -> None:
    program = f"from xmlgrpo_rewards.console_script import run_command\n{program}"
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the standard output takes no more: No space left")
    assert done.stderr.count("\n") == 1


CANARY = "hf_" + "A1" * 12


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["--token", CANARY], id="its-own-argument"),
        pytest.param([f"--token={CANARY}"], id="after-an-equals-sign"),
        pytest.param(["--run", f"outputs/{CANARY}/x"], id="inside-a-path"),
    ],
)
def test_a_token_in_an_argument_is_refused_and_not_repeated(argv: list[str]) -> None:
    with pytest.raises(UserError, match="holds a Hugging Face token") as refusal:
        refuse_tokens(argv)
    assert CANARY not in str(refusal.value)


def test_ordinary_arguments_pass() -> None:
    refuse_tokens(["push", "--repo", "me/hf_model", "--run", "outputs/hf_short"])


@pytest.mark.parametrize(
    ("low", "high", "good", "bad"),
    [
        pytest.param(0.0, 1.0, ["0", "1", "0.5", "1e-9"], "nan inf -0.1 1.1 1e300 x", id="share"),
        pytest.param(1, 9, ["1", "9"], "0 10 -1 0.5 1e0 nan x", id="count"),
    ],
)
def test_a_number_is_within_its_range(low: float, high: float, good: list[str], bad: str) -> None:
    number = within(low, high)
    assert [number(text) for text in good] == [type(low)(text) for text in good]
    for text in ["", *bad.split()]:
        with pytest.raises(argparse.ArgumentTypeError, match=r"expected a .*number from"):
            number(text)


@pytest.mark.parametrize("text", ["0", "7", "007", str(LARGEST_SEED)])
def test_a_seed_is_a_whole_number(text: str) -> None:
    assert seed_argument(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "abc", "-1", "1.5", "1e3", "+3", "²", str(LARGEST_SEED + 1), "9" * 5000]
)
def test_what_is_no_seed_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UserError, match=r"--seed: expected a whole number from 0 to 4,294,967,295"):
        seed_argument(text)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_takes_no_file_and_ends_in_no_traceback(
    tmp_path: Path, closed: str
) -> None:
    command = (
        "import os, subprocess, sys\n"
        "from xmlgrpo_rewards import UserError\n"
        "from xmlgrpo_rewards.console_script import run_command\n"
        "def run():\n"
        "    with open('kept', 'w') as kept:\n"
        "        print('said', sys.stdout.isatty(), flush=True)\n"
        "        subprocess.run(['sh', '-c', 'echo child; echo child >&2'], check=True)\n"
        "        kept.write(sys.stdin.read())\n"
        "    raise UserError('as ever')\n"
        "run_command(run)\n"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, command],
        cwd=tmp_path,
        input="asked",
        capture_output=True,
        text=True,
        check=False,
    )
    said, warned = "said False\nchild\n", "child\nerror: as ever\n"
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "" if " >&-" in f" {closed}" else said,
        "" if "2>&-" in closed else warned,
    )
    assert (tmp_path / "kept").read_text(encoding="utf-8") == ("" if "<" in closed else "asked")

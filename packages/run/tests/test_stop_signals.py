"""What a process learns of a stop: here of its parent's, which can tell it nothing any more."""

import subprocess
import sys

import pytest

CHILD = """
import signal, time
from xmlgrpo_run.stop_signals import end_with_parent

signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), exit(0)))
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_a_process_is_told_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        assert parent.stdout.read() == "told\n"

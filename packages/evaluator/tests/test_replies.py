"""The journal of replies: torn, continued, foreign, and written by one process only."""

import json
from io import FileIO

import pytest

from xmlgrpo_evaluator.journal import (
    CountedReply,
    EngineUse,
    Journal,
    open_journal,
    request_digest,
)
from xmlgrpo_rewards.errors import UserError

IDENTITY = {"model": {"source": "a", "content": "5e1f"}, "limit": 3, "format_version": 3}


def reply(text: str, tokens: int = 2, *, truncated: bool = False) -> CountedReply:
    return CountedReply(text, tokens=tokens, truncated=truncated)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "replies.jsonl"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<answer>\n7\n</answer>", id="ordinary"),
        pytest.param("", id="nothing"),
        pytest.param('quotes " and \\ and \u2028 and 🦜', id="characters-that-break-lines"),
        pytest.param("\ud800", id="lone-surrogate"),
        pytest.param("again and " * 20_000, id="endless-repetition"),
    ],
)
def test_a_reply_is_read_back_as_it_was(path, text):
    with open_journal(path, IDENTITY) as journal:
        journal.add(("k", 0), reply(text, 5, truncated=True))
    with open_journal(path, IDENTITY) as journal:
        kept = journal.get(("k", 0))
        assert journal.resumed == 1
    assert kept is not None
    assert kept == text
    assert (kept.tokens, kept.truncated) == (5, True)


@pytest.mark.parametrize("cut", [1, 10, 40], ids=lambda cut: f"{cut}-bytes-short")
def test_a_torn_last_line_is_dropped_and_the_rest_kept(path, cut):
    with open_journal(path, IDENTITY) as journal:
        journal.add(("a", 0), reply("first"))
        journal.add(("b", 0), reply("second"))
    path.write_bytes(path.read_bytes()[:-cut])
    with open_journal(path, IDENTITY) as journal:
        assert journal.get(("a", 0)) == "first"
        assert journal.get(("b", 0)) is None
        journal.add(("b", 0), reply("second again"))
    with open_journal(path, IDENTITY) as journal:
        assert journal.get(("b", 0)) == "second again"
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((b"second", b"sec0nd"), id="a-reply"),
        pytest.param((b'"key": "b"', b'"kex": "b"'), id="a-name"),
        pytest.param((b'"nth": 0, "tokens": 4', b'"nth": 0, "tokens": 3'), id="a-count"),
        pytest.param((b'{"key": "b"', b'["key", "b"'), id="no-json"),
    ],
)
def test_a_damaged_line_and_those_after_it_are_asked_again(path, change):
    with open_journal(path, IDENTITY) as journal:
        for key, text in (("a", "first"), ("b", "second"), ("c", "third")):
            journal.add((key, 0), reply(text, 4 if key == "b" else 3))
    path.write_bytes(path.read_bytes().replace(*change))
    with open_journal(path, IDENTITY) as journal:
        assert [journal.get((key, 0)) for key in "abc"] == ["first", None, None]
        assert journal.damaged == f"line 3 of {path} is damaged"
        journal.add(("b", 0), reply("second"))
    with open_journal(path, IDENTITY) as journal:
        assert [journal.get((key, 0)) for key in "abc"] == ["first", "second", None]


@pytest.mark.parametrize(
    ("content", "asked", "message"),
    [
        pytest.param(None, {"limit": 4}, r"another limit\).*delete it", id="another-limit"),
        pytest.param(
            None,
            {"format_version": 4},
            r"another version of the reply form, 3 and 4, which grade otherwise\); delete it",
            id="another-grader",
        ),
        pytest.param(
            b'{"question": "mine"}\n{"question": "and mine"}\n', {}, "another file", id="rows"
        ),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(path, content, asked, message):
    with open_journal(path, IDENTITY) as journal:
        journal.add(("a", 0), reply("first"))
    if content:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UserError, match=message), open_journal(path, IDENTITY | asked):
        pass
    assert path.read_bytes() == before


def test_a_journal_without_replies_protects_nothing(path):
    with open_journal(path, IDENTITY):
        pass
    for _ in range(2):
        with open_journal(path, {**IDENTITY, "limit": 4}) as journal:
            journal.add(("a", 0), reply("first"))
            assert journal.kept() == 1


class Interrupted(FileIO):
    """A file at whose next write Ctrl-C comes, before it or after it."""

    when = ""

    def write(self, content):
        if self.when == "before":
            raise KeyboardInterrupt
        written = super().write(content)
        if self.when == "after":
            raise KeyboardInterrupt
        return written


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_said_to_be_kept_at_ctrl_c_is_what_the_next_start_finds(path, when):
    with Interrupted(path, "ab") as file:
        journal = Journal(path, file)
        journal.begin(IDENTITY)
        journal.note_engine(EngineUse("generate", "a test", 1))
        journal.add(("a", 0), reply("first"))
        file.when = when
        with pytest.raises(KeyboardInterrupt):
            journal.add(("b", 0), reply("second"))
        said = journal.kept()
    with open_journal(path, IDENTITY) as journal:
        assert said == journal.resumed == (1 if when == "before" else 2)


def test_the_digest_tells_requests_apart():
    one = request_digest("prompt", {"until": ["x"], "do_sample": False})
    assert one == request_digest("prompt", {"do_sample": False, "until": ["x"]})
    assert one != request_digest("prompt ", {"until": ["x"], "do_sample": False})
    assert one != request_digest("prompt", {"until": ["x"], "do_sample": True})


def test_two_at_once_are_refused_and_nothing_is_lost(path):
    with open_journal(path, IDENTITY) as journal:
        journal.add(("a", 0), reply("first"))
        refused = pytest.raises(UserError, match="another process is evaluating into")
        with refused, open_journal(path, IDENTITY):
            pass
        journal.add(("b", 0), reply("second"))
    with open_journal(path, IDENTITY) as journal:
        assert journal.resumed == 2

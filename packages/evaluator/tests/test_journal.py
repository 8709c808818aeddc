import json

import pytest

from xmlgrpo_evaluator.harness.journal import Journal, request_digest
from xmlgrpo_evaluator.harness.replies import CountedReply
from xmlgrpo_rewards.errors import UserError

SUBJECT = {"model": {"source": "a"}, "limit": 3}


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
    with Journal(path, SUBJECT) as journal:
        journal.add(("k", 0), reply(text, 5, truncated=True))
    with Journal(path, SUBJECT) as journal:
        found = journal.get(("k", 0))
        assert journal.resumed == 1
    assert found == text
    assert (found.tokens, found.truncated) == (5, True)


@pytest.mark.parametrize("cut", [1, 10, 40], ids=lambda cut: f"{cut}-bytes-short")
def test_a_torn_last_line_is_dropped_and_the_rest_kept(path, cut):
    with Journal(path, SUBJECT) as journal:
        journal.add(("a", 0), reply("first"))
        journal.add(("b", 0), reply("second"))
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, SUBJECT) as journal:
        assert journal.get(("a", 0)) == "first"
        assert journal.get(("b", 0)) is None
        journal.add(("b", 0), reply("second again"))
    with Journal(path, SUBJECT) as journal:
        assert journal.get(("b", 0)) == "second again"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_replies_of_another_evaluation_are_refused_by_name(path):
    with Journal(path, SUBJECT) as journal:
        journal.add(("a", 0), reply("first"))
    with pytest.raises(UserError, match=r"another limit.*delete it"):
        Journal(path, {**SUBJECT, "limit": 4})
    assert b"first" in path.read_bytes()


def test_a_journal_without_replies_protects_nothing(path):
    with Journal(path, SUBJECT):
        pass
    with Journal(path, {**SUBJECT, "limit": 4}) as journal:
        journal.add(("a", 0), reply("first"))
    with Journal(path, {**SUBJECT, "limit": 4}) as journal:
        assert len(journal) == 1


def test_the_digest_tells_requests_apart():
    one = request_digest("prompt", {"until": ["x"], "do_sample": False})
    assert one == request_digest("prompt", {"do_sample": False, "until": ["x"]})
    assert one != request_digest("prompt ", {"until": ["x"], "do_sample": False})
    assert one != request_digest("prompt", {"until": ["x"], "do_sample": True})


def test_two_at_once_are_refused_and_nothing_is_lost(path):
    with Journal(path, SUBJECT) as journal:
        journal.add(("a", 0), reply("first"))
        with pytest.raises(UserError, match="another process is evaluating into"):
            Journal(path, SUBJECT)
        journal.add(("b", 0), reply("second"))
    with Journal(path, SUBJECT) as journal:
        assert journal.resumed == 2

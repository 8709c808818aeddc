"""What evaluation and `ask` make of a file."""

from typing import TYPE_CHECKING

import pytest

from xmlgrpo_rewards.errors import UserError

from .hand_made import CHAT, ECHO, write_gguf

if TYPE_CHECKING:
    from xmlgrpo_trainer.ask.chat import Completion

pytestmark = pytest.mark.gguf


def asked(path, tokens: int = 3) -> tuple["Completion", str]:
    """What `ask` says, and what it hands on piece by piece."""
    from xmlgrpo_trainer.ask.chat import ReplySettings
    from xmlgrpo_trainer.ask.gguf import GgufChat

    pieces: list[str] = []
    return GgufChat(str(path))(CHAT, ReplySettings(tokens), pieces.append), "".join(pieces)


def test_no_chat_is_rendered_in_this_process(tmp_path, monkeypatch):
    from transformers.utils import chat_template_utils

    from xmlgrpo_evaluator.harness.gguf import LlamaCppLM

    def here(*_args: object, **_options: object) -> str:
        raise AssertionError("rendered in this process")

    monkeypatch.setattr(chat_template_utils, "render_jinja_template", here)
    path = write_gguf(tmp_path / "m.gguf")
    assert LlamaCppLM(path, threads=1).apply_chat_template(CHAT) == "<s>ab"
    said, _ = asked(path)
    assert said.prompt_tokens == 3


@pytest.mark.parametrize(
    ("vocabulary", "template", "prompt_tokens"),
    [
        pytest.param("llama", ECHO, 3, id="the-template-writes-the-bos"),
        pytest.param("llama", "{{ messages[0].content }}", 3, id="the-file-asks-for-it"),
        pytest.param("t5", ECHO, 2, id="a-family-without-bos"),
    ],
)
def test_every_family_is_asked(tmp_path, vocabulary, template, prompt_tokens):
    path = write_gguf(tmp_path / "m.gguf", template=template, vocabulary=vocabulary)
    said, told = asked(path)
    assert said.prompt_tokens == prompt_tokens
    assert said.text == told
    assert 1 <= said.tokens <= 3


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{{ bos_token }}" + ECHO, "holds 2 <s> tokens, expected one", id="two-bos"),
        pytest.param(None, "has no chat template", id="no-template"),
        pytest.param(ECHO + "{{ 'ab' * 40 }}", "the model's context is 64 tokens", id="too-long"),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path, template, message):
    with pytest.raises(UserError, match=message):
        asked(write_gguf(tmp_path / "m.gguf", template=template))

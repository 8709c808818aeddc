"""A GGUF from elsewhere costs a child process, not the command: vocabularies written by hand."""

import struct

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.ask import trial

pytestmark = pytest.mark.gguf

U32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
PIECES = ("<unk>", "<s>", "</s>", "a", "b")
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
CHAT = [{"role": "user", "content": "ab"}]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def write_gguf(path, *, template: str, blocks: int = 1) -> str:
    """A file that llama.cpp reads the vocabulary of; it has no weights."""
    number = struct.Struct("<I").pack
    kinds = [UNKNOWN, CONTROL, CONTROL, NORMAL, NORMAL]
    pairs = [
        ("general.architecture", STRING, text("llama")),
        ("llama.context_length", U32, number(64)),
        ("llama.embedding_length", U32, number(32)),
        ("llama.block_count", U32, number(blocks)),
        ("llama.feed_forward_length", U32, number(32)),
        ("llama.attention.head_count", U32, number(1)),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-6)),
        ("tokenizer.ggml.model", STRING, text("llama")),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(piece) for piece in PIECES])),
        ("tokenizer.ggml.scores", ARRAY, array(FLOAT32, [struct.pack("<f", 0.0)] * len(PIECES))),
        ("tokenizer.ggml.token_type", ARRAY, array(INT32, [struct.pack("<i", k) for k in kinds])),
        ("tokenizer.ggml.add_space_prefix", BOOL, b"\0"),  # there is no piece for a space
        ("tokenizer.chat_template", STRING, text(template)),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs))
    body = b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    path.write_bytes((head + body).ljust(4096, b"\0"))
    return str(path)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ messages[0]['content'] }}", id="no-weights"),
        pytest.param("{{ raise_exception('no') }}", id="template-refuses"),
        pytest.param("{{ ''.__class__.__mro__ }}", id="template-breaks-out"),
    ],
)
def test_what_asking_says_in_words_is_left_to_it(tmp_path, template):
    trial.require_survivable(write_gguf(tmp_path / "m.gguf", template=template), CHAT)


def test_crash_is_told(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", template="", blocks=1 << 31)
    with pytest.raises(UserError, match=r"makes llama.cpp crash \(signal 6\)"):
        trial.require_survivable(path, CHAT)


def test_template_that_never_ends_is_stopped(tmp_path, monkeypatch):
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(trial, "TIMEOUT_S", 5.0)
    with pytest.raises(UserError, match="was not ready to answer after 5 s"):
        trial.require_survivable(write_gguf(tmp_path / "m.gguf", template=loop), CHAT)

"""A GGUF from elsewhere costs a child process, not the command: vocabularies written by hand."""

import struct

import pytest

from xmlgrpo_gguf import trial
from xmlgrpo_rewards.errors import UserError

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


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "prompt", "problem"),
    [
        pytest.param("{{ messages[0]['content'] }}", "ab", "Failed to load", id="no-weights"),
        pytest.param("{{ bos_token }}a{{ eos_token }}", "<s>a</s>", "Failed", id="real-bos"),
        pytest.param("{{ raise_exception('no') }}", None, "ValueError: no", id="refuses"),
        pytest.param("{{ ''.__class__.__mro__ }}", None, "SecurityError", id="breaks-out"),
        pytest.param("{{ 'a' * 20000000 }}", None, "20000000 characters", id="too-long"),
    ],
)
def test_what_asking_says_in_words_is_left_to_it(tmp_path, template, prompt, problem):
    tried = trial.try_file(write_gguf(tmp_path / "m.gguf", template=template), CHAT)
    assert tried.prompt == prompt
    assert problem in tried.problem


def test_crash_is_told(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", template="", blocks=1 << 31)
    with pytest.raises(UserError, match=r"makes llama.cpp crash \(signal 6\)"):
        trial.try_file(path, CHAT)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(LOOP, id="always"),
        pytest.param("{% if bos_token %}" + LOOP + "{% endif %}a", id="with-the-real-bos"),
        pytest.param(
            "{% if messages[0].content == 'ab' %}" + LOOP + "{% endif %}a", id="this-chat"
        ),
    ],
)
def test_template_that_never_ends_is_stopped(tmp_path, monkeypatch, capfd, template):
    monkeypatch.setattr(trial, "SILENT_S", 0.1)
    with pytest.raises(UserError, match="takes without end"):
        trial.try_file(write_gguf(tmp_path / "m.gguf", template=template), CHAT, cpu_s=1)
    assert "in a process of its own first" in capfd.readouterr().err


def test_asking_renders_in_the_child_only(tmp_path, monkeypatch):
    """A template that waits for its second rendering finds none."""
    from llama_cpp import llama_chat_format

    from xmlgrpo_trainer.ask.gguf import GgufSpeaker
    from xmlgrpo_trainer.ask.speaker import Settings

    def here(*_args: object, **_options: object) -> str:
        raise AssertionError("rendered in this process")

    monkeypatch.setattr(llama_chat_format.Jinja2ChatFormatter, "__call__", here)
    path = write_gguf(tmp_path / "m.gguf", template="{{ bos_token }}{{ messages[0].content }}")
    with pytest.raises(UserError, match=r"llama\.cpp cannot load"):  # the weights: it has none
        GgufSpeaker(path)(CHAT, Settings(1), lambda _text: None)


def test_no_token_reaches_the_child(tmp_path, monkeypatch):
    seen = {}

    class Spy(trial.subprocess.Popen):
        def __init__(self, *args: object, env: dict[str, str], **options: object) -> None:
            seen.update(env)
            super().__init__(*args, env=env, **options)

    monkeypatch.setattr(trial.subprocess, "Popen", Spy)
    for name in trial.DROPPED:
        monkeypatch.setenv(name, "secret")
    trial.try_file(write_gguf(tmp_path / "m.gguf", template="a"), CHAT)
    assert seen
    assert "secret" not in seen.values()

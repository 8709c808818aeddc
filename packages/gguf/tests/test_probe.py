"""A GGUF from anywhere costs a child process at most."""

from pathlib import Path

import pytest

from xmlgrpo_gguf.model import open_gguf
from xmlgrpo_gguf.probe import probe
from xmlgrpo_gguf.template import ChatTemplate
from xmlgrpo_rewards.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.gguf]
LAYERS = b"gemma3.block_count"
LOOP = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3


def patched(gguf: Path, out: Path, *, layers: int | None = None, template: str = "") -> Path:
    """A copy with another number of layers, or another chat template of the same length."""
    content = bytearray(gguf.read_bytes())
    if layers is not None:
        place = content.index(LAYERS) + len(LAYERS) + 4  # after the name its type, then the value
        content[place : place + 4] = layers.to_bytes(4, "little")
    if template:
        with open_gguf(gguf) as model:
            before = model.chat_template.encode()
        place = content.index(before)
        content[place : place + len(before)] = template.encode().ljust(len(before))
    out.write_bytes(content)
    return out


def test_a_sound_file_passes(tiny_gguf):
    probe(tiny_gguf)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"layers": 0}, "llama.cpp breaks down .*GGML_ASSERT", id="contradiction"),
        pytest.param(
            {"template": "{{ ''.__class__.__mro__ }}"},
            "cannot be rendered .SecurityError",
            id="reaching-out",
        ),
        pytest.param(
            {"template": "{{ 'x' * 30000000000 }}"}, "cannot be rendered .MemoryError", id="memory"
        ),
        pytest.param({"template": "{{ 1 / 0 }}"}, "cannot be rendered .Zero", id="python-error"),
        pytest.param({"template": "{% if %}"}, "cannot be rendered .Template", id="syntax"),
        pytest.param({"template": LOOP}, "takes without end", id="endless"),
    ],
)
def test_a_hostile_file_is_one_message(tiny_gguf, tmp_path, change, message):
    file = patched(tiny_gguf, tmp_path / "hostile.gguf", **change)
    with pytest.raises(UserError, match=message):
        probe(file, cpu_s=3)


def chat(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def test_the_child_renders_as_transformers_does(tiny, tiny_gguf):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    with open_gguf(tiny_gguf) as model:
        template = ChatTemplate(model)
        for question in ("1+1?", "caf\u00e9\u2028\n\U0001f600"):
            here = tokenizer.apply_chat_template(
                chat(question), tokenize=False, add_generation_prompt=True
            )
            assert template.render(chat(question), add_generation_prompt=True) == here


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        pytest.param(LOOP, "takes without end over a chat", id="endless"),
        pytest.param("{{ 1 / 0 }}", "cannot be rendered .Zero", id="python-error"),
        pytest.param(
            "{{ messages[0].content * 30000000000 }}", "rendered .MemoryError", id="memory"
        ),
    ],
)
def test_a_template_that_behaves_over_one_chat_only_costs_the_child(
    tiny_gguf, tmp_path, rest, message
):
    evasive = "{% if messages[0].content == 'real' %}" + rest + "{% endif %}{{ bos_token }}fine"
    file = patched(tiny_gguf, tmp_path / "evasive.gguf", template=evasive)
    probe(file)
    with open_gguf(file) as model:
        template = ChatTemplate(model, cpu_s=2)
        other = template.render(chat("another"), add_generation_prompt=True)
        assert other.rstrip() == "<bos>fine"
        with pytest.raises(UserError, match=message):
            template.render(chat("real"), add_generation_prompt=True)


def test_the_lm_renders_in_the_child(tiny_gguf, tmp_path, monkeypatch):
    """Chats of a run go through the limits, not only the trial's."""
    from xmlgrpo_evaluator.harness.gguf import LlamaCppLM
    from xmlgrpo_gguf import template as gguf_template

    def here(*_args: object, **_options: object) -> str:
        raise AssertionError("rendered in this process")

    monkeypatch.setattr(gguf_template, "render_here", here)
    monkeypatch.setattr(gguf_template, "render_jinja_template", here)
    lm = LlamaCppLM(tiny_gguf, threads=1)
    assert "1+1?" in lm.apply_chat_template(chat("1+1?"))

"""A GGUF from anywhere costs a child process at most."""

from pathlib import Path

import pytest

from xmlgrpo_evaluator.gguf_model import open_gguf
from xmlgrpo_evaluator.gguf_probe import probe
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

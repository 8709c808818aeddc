"""Every defect that an export may have, planted in a sound file, and the gate that finds it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from xmlgrpo_exporter.check import gates
from xmlgrpo_exporter.convert.export_plan import quantize
from xmlgrpo_gguf.header import read_header

from ..exporting import failed_gates, to_f16

pytestmark = [pytest.mark.gguf, pytest.mark.slow]


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_sound_file_passes(exported, reference):
    assert failed_gates(exported / "gguf" / "tiny-f16.gguf", reference) == set()


def test_missing_added_tokens(exported, reference, tmp_path):
    # what everybody does: tokenizer.model copied beside what transformers 5 saves
    model = copy_of(exported / "merged", tmp_path)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings.pop("added_tokens_decoder", None)
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    assert failed_gates(to_f16(model, tmp_path, staged=False), reference) == {"tokens", "stop"}


def edited(exported: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    """A copy of the f16 file with a text in its header replaced by one of the same length."""
    assert len(old) == len(new)
    whole = (exported / "gguf" / "tiny-f16.gguf").read_bytes()
    assert whole.count(old) >= 1
    path = tmp_path / "edited.gguf"
    path.write_bytes(whole.replace(old, new, 1))
    return path


TURN = "{{ '<start_of_turn>user\n' + messages[-1]['content'] + '<end_of_turn>\n' }}"

UNUSABLE = {"one_bos", "template"}


def with_template(exported: Path, tmp_path: Path, template: str) -> Path:
    """A copy of the f16 file with another chat template, filled up to the same length."""
    good = (exported / "merged" / "chat_template.jinja").read_text()
    filler = "{#" + "x" * (len(good) - len(template) - 4) + "#}"
    return edited(exported, tmp_path, good.encode(), (template + filler).encode())


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param(
            "{{ bos_token }}{{ bos_token }}" + TURN, {"one_bos", "template"}, id="two-bos"
        ),
        pytest.param("{{ bos_token }}" + TURN, {"template"}, id="system-text-lost"),
        pytest.param(TURN, {"one_bos", "template"}, id="no-bos"),
        pytest.param("{{ raise_exception('no') }}", UNUSABLE, id="raises"),
        pytest.param("{{ ''.__class__.__mro__ }}", UNUSABLE, id="escapes-sandbox"),
    ],
)
def test_wrong_template(exported, reference, tmp_path, template, expected):
    assert failed_gates(with_template(exported, tmp_path, template), reference) == expected


def test_template_that_never_ends_is_stopped_and_not_rendered_again(exported, reference, tmp_path):
    # a range above 100,000 is refused by the sandbox, two of them inside each other are not
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    found = gates.check_file(with_template(exported, tmp_path, loop), reference)
    failed = {gate.name: gate.why for gate in found.gates if not gate.passed}
    assert failed.keys() == {"one_bos", "template"}
    assert "it writes one chat for over 1 s" in failed["template"]


def test_template_lost(exported, reference, tmp_path):
    path = edited(exported, tmp_path, b"tokenizer.chat_template", b"tokenizer.chat_temqlate")
    assert failed_gates(path, reference) == {"one_bos", "template"}


def test_bos_not_added_to_raw_text(exported, reference, tmp_path):
    key, boolean = b"tokenizer.ggml.add_bos_token", b"\x07\x00\x00\x00"
    path = edited(exported, tmp_path, key + boolean + b"\x01", key + boolean + b"\x00")
    assert failed_gates(path, reference) == {"one_bos"}


def overwrite(path: Path, tmp_path: Path, tensor: str, content: bytes) -> Path:
    """A copy in which the start of a tensor's bytes is something else."""
    found = next(t for t in read_header(path).tensors if t.name == tensor)
    copy = Path(shutil.copy(path, tmp_path / "damaged.gguf"))
    with copy.open("r+b") as file:
        file.seek(found.start)
        file.write((content * found.size_bytes)[: found.size_bytes])
    return copy


@pytest.mark.parametrize(
    ("tensor", "content"),
    [
        pytest.param("blk.1.ffn_down.weight", b"\x00\x3c\x00\xbc", id="ones-and-minus-ones"),
        pytest.param("blk.0.attn_q.weight", b"\x00", id="zeroed"),
    ],
)
def test_corrupted_tensor(exported, reference, tmp_path, tensor, content):
    damaged = overwrite(exported / "gguf" / "tiny-f16.gguf", tmp_path, tensor, content)
    assert failed_gates(damaged, reference) == {"distance", "greedy"}


def test_weights_that_are_not_numbers(exported, reference, tmp_path):
    source = exported / "gguf" / "tiny-f16.gguf"
    damaged = overwrite(source, tmp_path, "token_embd.weight", b"\x00\x7e")
    assert failed_gates(damaged, reference) == {"answers", "distance", "greedy"}


def test_two_tensors_in_each_other_s_place(exported, reference, tmp_path):
    source = exported / "gguf" / "tiny-f16.gguf"
    gate, up = (
        next(t for t in read_header(source).tensors if t.name == f"blk.1.ffn_{name}.weight")
        for name in ("gate", "up")
    )
    swapped = bytearray(source.read_bytes())
    gate_bytes = slice(gate.start, gate.start + gate.size_bytes)
    up_bytes = slice(up.start, up.start + up.size_bytes)
    swapped[gate_bytes], swapped[up_bytes] = swapped[up_bytes], swapped[gate_bytes]
    path = tmp_path / "swapped.gguf"
    path.write_bytes(swapped)
    # half of the four replies survive it; the distributions do not
    assert "distance" in failed_gates(path, reference)


def test_renamed_end_of_turn(exported, reference, tmp_path):
    # the first occurrence is the vocabulary's, the later ones are the chat template's
    path = edited(exported, tmp_path, b"<end_of_turn>", b"<fin_of_turn>")
    assert failed_gates(path, reference) == {"tokens", "stop", "greedy"}


def test_quantized_too_far(exported, reference, tmp_path):
    out = tmp_path / "tq1_0.gguf"
    quantize(to_f16(exported / "merged", tmp_path), out, "tq1_0", None)
    assert failed_gates(out, reference) == {"distance"}


@pytest.mark.parametrize("share", [0.3, 0.99], ids=["a-third", "all-but-a-little"])
def test_truncated_file(exported, reference, tmp_path, share):
    whole = (exported / "gguf" / "tiny-f16.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert failed_gates(path, reference) == {"file"}


def test_whole_header_with_a_model_that_cannot_be_loaded(exported, reference, tmp_path):
    path = edited(exported, tmp_path, b"blk.0.attn_q.weight", b"blk.0.attn_z.weight")
    assert failed_gates(path, reference) == {"answers"}


def test_slow_file_is_stopped(exported, reference):
    hurried = replace(reference, comparison=replace(reference.comparison, timeout_s=0.01))
    found = gates.check_file(exported / "gguf" / "tiny-f16.gguf", hurried)
    gate = next(gate for gate in found.gates if gate.name == "answers")
    assert not gate.passed
    assert "took longer" in gate.why

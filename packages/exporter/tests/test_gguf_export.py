"""A run exported for real, and every defect that an export may have, planted and caught."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_exporter import converter
from xmlgrpo_exporter.bench import prepare_bench
from xmlgrpo_exporter.check import check_file
from xmlgrpo_exporter.cli import build_parser
from xmlgrpo_exporter.gate import EXIT_GATE_FAILED
from xmlgrpo_exporter.gguf import quantize
from xmlgrpo_exporter.gguf_header import read_header
from xmlgrpo_exporter.imatrix import write_imatrix
from xmlgrpo_exporter.quant_types import GivenLimits
from xmlgrpo_exporter.questions import AWKWARD, QuestionSet
from xmlgrpo_exporter.staging import stage
from xmlgrpo_rewards.errors import UserError

from .conftest import problems

pytestmark = [pytest.mark.gguf, pytest.mark.slow]

FEW = ("--prompts", "4", "--new-tokens", "24")
GATES = {"file", "tokens", "one_bos", "template", "stop", "answers", "distance", "greedy"}


def run_cli(*words) -> int:
    arguments = build_parser().parse_args([str(word) for word in words])
    return arguments.command(arguments)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """The run, exported by the command that a user gives."""
    run = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(tiny_run.run, run)
    assert run_cli("gguf", "--run", run, "--quants", "f16 q8_0 q4_k_m", *FEW) == 0
    return run


@pytest.fixture(scope="module")
def bench(exported):
    """The merged model and its replies."""
    asked = QuestionSet("the fixture's problems", tuple(question for question, _ in problems(4)))
    return prepare_bench(
        exported / "merged", asked, task=None, prompts=4, new_tokens=24, device="cpu"
    )


@pytest.fixture(scope="module")
def convert_folder(tmp_path_factory):
    """Convert a model folder to f16, staged as the export does it or as it is."""

    def convert(model: Path, *, staged: bool = True) -> Path:
        home = tmp_path_factory.mktemp("converted")
        (home / "staged").mkdir()
        source = stage(model, home / "staged") if staged else model
        out = home / "model-f16.gguf"
        converter.convert(
            converter.find_converter(print),
            source,
            out,
            outtype="f16",
            name="defect",
            on_poll=lambda: None,
        )
        return out

    return convert


def failed_gates(path: Path, bench) -> set[str]:
    check = check_file(path, bench, given=GivenLimits(), timeout_s=300)
    json.dumps(check.as_json(), allow_nan=False)
    for gate in check.gates:
        assert bool(gate.why) is not gate.passed
    return {gate.name for gate in check.gates if not gate.passed}


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_one_command_exports_and_checks(exported, capsys):
    check = json.loads((exported / "gguf" / "check.json").read_text())
    assert check["passed"]
    assert set(check["files"]) == {f"tiny-{quant}.gguf" for quant in ("f16", "q8_0", "q4_k_m")}
    for entry in check["files"].values():
        assert set(entry["gates"]) == GATES
    distances = [
        check["files"][f"tiny-{quant}.gguf"]["gates"]["distance"]["found"]["mean_kl"]
        for quant in ("f16", "q8_0", "q4_k_m")
    ]
    assert 0 < distances[0] < distances[1] < distances[2]
    names = {path.name for path in (exported / "gguf").iterdir()}
    header = read_header(exported / "gguf" / "tiny-q8_0.gguf")
    assert header.metadata["general.name"] == "tiny"
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert names == {"check.json"} | {
        f"tiny-{quant}.{kind}"
        for quant in ("f16", "q8_0", "q4_k_m")
        for kind in ("gguf", "Modelfile")
    }


def test_what_is_there_is_left_alone(exported, capsys):
    before = {path: path.stat().st_mtime_ns for path in (exported / "gguf").iterdir()}
    assert run_cli("gguf", "--run", exported, "--quants", "q8_0", "f16", *FEW) == 0
    assert "is up to date" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (exported / "gguf").iterdir()}


def test_file_of_another_model_is_not_overwritten(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    (run / "gguf" / "check.json").unlink()
    with pytest.raises(UserError, match="not overwritten"):
        run_cli("gguf", "--run", run, "--quants", "q8_0", *FEW)


def test_check_command_finds_the_files_and_repeats_the_verdict(exported, tmp_path, capsys):
    words = ("check", "--run", exported, "--out", tmp_path, *FEW)
    assert run_cli(*words) == 0
    assert json.loads((tmp_path / "check.json").read_text())["passed"]
    assert run_cli(*words, "--max-kl", "1e-9") == EXIT_GATE_FAILED
    assert not json.loads((tmp_path / "check.json").read_text())["passed"]
    assert "FAIL distance" in capsys.readouterr().out


def test_every_gsm8k_question_is_tokenized_alike(exported, gsm8k_dir, tmp_path):
    words = ("check", "--run", exported, "--data", gsm8k_dir, "--out", tmp_path, *FEW)
    # problems unlike the fixture's own: what it answers to them is not the point here
    assert run_cli(*words, "--max-kl", "1", "--min-top1", "0.5", "--min-identical", "0") == 0
    entries = json.loads((tmp_path / "check.json").read_text())["files"].values()
    for entry in entries:
        assert entry["gates"]["tokens"]["found"]["mismatches"] == 0
        assert entry["gates"]["tokens"]["found"]["prompts"] == 1319 + len(AWKWARD)


def test_file_that_fails_does_not_get_its_name(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    words = ("gguf", "--run", run, "--quants", "tq1_0", *FEW)
    assert run_cli(*words) == EXIT_GATE_FAILED
    names = {path.name for path in (run / "gguf").glob("tiny-tq1_0*")}
    assert names == {"tiny-tq1_0.gguf.rejected"}
    check = json.loads((run / "gguf" / "check.json").read_text())
    assert not check["passed"]
    assert not check["files"]["tiny-tq1_0.gguf"]["gates"]["distance"]["passed"]


def test_interrupted_export_leaves_no_child_and_no_half_file(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    words = ("gguf", "--run", str(run), "--quants", "q5_k_m", *FEW)
    script = "from xmlgrpo_exporter.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("convert to"):  # the quantizer is next, then the gates
                process.terminate()
                break
        rest, said = process.communicate()
    assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted"), rest
    assert not [path for path in (run / "gguf").iterdir() if path.name.startswith(".")]
    assert not list((run / "gguf").glob("*q5_k_m*"))


def test_strangers_folder_with_safetensors_and_tokenizer_json_only(tiny_run, tmp_path):
    model = tmp_path / "stranger"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        shutil.copy(tiny_run.base / name, model)
    assert run_cli("gguf", "--model", model, "--quants", "q8_0", *FEW) == 0
    check = json.loads((tmp_path / "stranger-gguf" / "check.json").read_text())
    assert check["files"]["stranger-q8_0.gguf"]["gates"]["tokens"]["found"]["mismatches"] == 0


def test_multimodal_model_is_exported_as_its_language_model(vision_run, tmp_path):
    run = Path(shutil.copytree(vision_run.run, tmp_path / "seeing"))
    assert run_cli("gguf", "--run", run, "--quants", "f16", *FEW) == 0
    names = {tensor.name for tensor in read_header(run / "gguf" / "seeing-f16.gguf").tensors}
    assert "token_embd.weight" in names
    assert not {name for name in names if name.startswith(("v.", "mm."))}


def test_sound_file_passes(exported, bench):
    assert failed_gates(exported / "gguf" / "tiny-f16.gguf", bench) == set()


def test_missing_added_tokens(exported, bench, convert_folder, tmp_path):
    # what everybody does: tokenizer.model copied beside what transformers 5 saves
    model = copy_of(exported / "merged", tmp_path)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings.pop("added_tokens_decoder", None)
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    failed = failed_gates(convert_folder(model, staged=False), bench)
    assert {"tokens", "stop"} <= failed


def edited(exported: Path, tmp_path: Path, old: bytes, new: bytes) -> Path:
    """A copy of the f16 file with a text in its header replaced by one of the same length."""
    assert len(old) == len(new)
    whole = (exported / "gguf" / "tiny-f16.gguf").read_bytes()
    assert whole.count(old) >= 1
    path = tmp_path / "edited.gguf"
    path.write_bytes(whole.replace(old, new, 1))
    return path


TURN = "{{ '<start_of_turn>user\n' + messages[-1]['content'] + '<end_of_turn>\n' }}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param(
            "{{ bos_token }}{{ bos_token }}" + TURN, {"one_bos", "template"}, id="two-bos"
        ),
        pytest.param("{{ bos_token }}" + TURN, {"template"}, id="system-text-lost"),
        pytest.param(TURN, {"one_bos", "template"}, id="no-bos"),
        pytest.param("{{ raise_exception('no') }}", {"one_bos", "template"}, id="raises"),
        pytest.param("{{ ''.__class__.__mro__ }}", {"one_bos", "template"}, id="escapes-sandbox"),
    ],
)
def test_wrong_template(exported, bench, tmp_path, template, expected):
    good = (exported / "merged" / "chat_template.jinja").read_text()
    filler = "{#" + "x" * (len(good) - len(template) - 4) + "#}"
    path = edited(exported, tmp_path, good.encode(), (template + filler).encode())
    failed = failed_gates(path, bench)
    assert failed - {"answers"} == expected


def test_bos_not_added_to_raw_text(exported, bench, tmp_path):
    key, boolean = b"tokenizer.ggml.add_bos_token", b"\x07\x00\x00\x00"
    path = edited(exported, tmp_path, key + boolean + b"\x01", key + boolean + b"\x00")
    assert failed_gates(path, bench) == {"one_bos"}


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
        pytest.param("token_embd.weight", b"\x00\x7e", id="nan"),
    ],
)
def test_corrupted_tensor(exported, bench, tmp_path, tensor, content):
    damaged = overwrite(exported / "gguf" / "tiny-f16.gguf", tmp_path, tensor, content)
    failed = failed_gates(damaged, bench)
    assert failed & {"distance", "answers"}
    assert failed <= {"distance", "greedy", "answers"}


def test_renamed_end_of_turn(exported, bench, tmp_path):
    # the first occurrence is the vocabulary's, the later ones are the chat template's
    path = edited(exported, tmp_path, b"<end_of_turn>", b"<fin_of_turn>")
    assert {"tokens", "stop"} <= failed_gates(path, bench)


def test_quantized_too_far(exported, bench, convert_folder, tmp_path):
    out = tmp_path / "tq1_0.gguf"
    quantize(convert_folder(exported / "merged"), out, "tq1_0", None, lambda: None)
    assert "distance" in failed_gates(out, bench)


@pytest.mark.parametrize("share", [0.3, 0.99], ids=["a-third", "all-but-a-little"])
def test_truncated_file(exported, bench, tmp_path, share):
    whole = (exported / "gguf" / "tiny-f16.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert failed_gates(path, bench) == {"file"}


def test_whole_header_with_a_model_that_cannot_be_loaded(exported, bench, tmp_path):
    path = edited(exported, tmp_path, b"blk.0.attn_q.weight", b"blk.0.attn_z.weight")
    assert failed_gates(path, bench) == {"answers"}


def test_slow_file_is_stopped(exported, bench):
    check = check_file(
        exported / "gguf" / "tiny-f16.gguf", bench, given=GivenLimits(), timeout_s=0.01
    )
    gate = next(gate for gate in check.gates if gate.name == "answers")
    assert not gate.passed
    assert "took longer" in gate.why


def test_types_that_need_an_importance_matrix_say_so(exported):
    with pytest.raises(UserError, match="--imatrix"):
        run_cli("gguf", "--run", exported, "--quants", "iq2_xs", *FEW)


def test_importance_matrix_makes_what_needs_one(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": question}) for question, _ in problems(16)))
    words = ("gguf", "--run", run, "--data", data, "--quants", "iq2_xs", "--imatrix", *FEW)
    assert run_cli(*words, "--max-kl", "1", "--min-top1", "0.5") == 0
    assert not (run / "gguf" / "tiny-iq2_xs.gguf").exists()
    assert read_header(run / "gguf" / "tiny-imat-iq2_xs.gguf").metadata["general.file_type"] == 20


def test_importance_matrix_is_the_mean_square_of_the_inputs(bench, tmp_path):
    import numpy as np
    import torch

    prompts = bench.ids[:2]
    tokens = write_imatrix(bench.reference, prompts, 8, tmp_path / "m.npz")
    replies = bench.reference.greedy(prompts, 8)
    model = bench.reference.model.model
    with torch.inference_mode():
        # the first layer's projections read the normalised embeddings, which are easy to compute
        ids = [torch.tensor(p + r) for p, r in zip(prompts, replies, strict=True)]
        rows = model.layers[0].input_layernorm(model.embed_tokens(torch.cat(ids)))
    with np.load(tmp_path / "m.npz") as stored:
        assert len(stored.files) == 2 * 7  # layers, projections a layer
        found = stored["blk.0.attn_q.weight"]
    assert tokens == len(rows)
    np.testing.assert_allclose(found, rows.square().mean(0).numpy(), rtol=1e-5)


def test_importance_matrix_wants_questions_of_its_own(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "one?"}\n')
    words = ("gguf", "--run", run, "--data", data, "--quants", "iq2_xs", "--imatrix", *FEW)
    with pytest.raises(UserError, match="besides the 1 of the check, 0 are left"):
        run_cli(*words)


def test_chat_through_llama_cpp_python_answers(exported):
    """What `ask` does with the file: no template, BOS or stop id of its own."""
    entry = json.loads((exported / "gguf" / "check.json").read_text())["files"]["tiny-q8_0.gguf"]
    assert entry["answer"]
    assert entry["gates"]["answers"]["found"]["finish_reason"] in {"stop", "length"}

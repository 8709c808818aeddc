"""The parts of the export that need neither llama.cpp nor a model."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from xmlgrpo_exporter import converter
from xmlgrpo_exporter.child import run_child
from xmlgrpo_exporter.disk import require_free
from xmlgrpo_exporter.distance import Distance, compare_logits, identical
from xmlgrpo_exporter.fingerprint import fingerprint, sha256_of
from xmlgrpo_exporter.imatrix import gguf_name
from xmlgrpo_exporter.quant_types import (
    FILE_TYPES,
    GivenLimits,
    estimated_bytes,
    limits_for,
    parse_quants,
)
from xmlgrpo_exporter.questions import BUILT_IN, load_questions
from xmlgrpo_exporter.sentencepiece_file import is_gemma_form
from xmlgrpo_exporter.staging import check_model_folder, complete_settings
from xmlgrpo_exporter.usage import ollama_template
from xmlgrpo_rewards.errors import UserError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["q8_0 q4_k_m"], ("q8_0", "q4_k_m"), id="one-word-from-make"),
        pytest.param(["q8_0", "q4_k_m"], ("q8_0", "q4_k_m"), id="several-words"),
        pytest.param(["Q8_0,F16"], ("q8_0", "f16"), id="commas-and-case"),
        pytest.param(["f16 f16"], ("f16",), id="duplicates"),
    ],
)
def test_parse_quants(words, expected):
    assert parse_quants(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["q5_k"], "Did you mean q5_k_", id="typo"),
        pytest.param(["int8"], "Known: f32, f16", id="unknown"),
        pytest.param([" "], "none came", id="nothing"),
    ],
)
def test_wrong_quants(words, expected):
    with pytest.raises(UserError, match=expected):
        parse_quants(words)


@pytest.mark.gguf
def test_file_types_are_the_library_s():
    script = (
        "import json, llama_cpp; print(json.dumps({k[6:].removeprefix('FTYPE_')"
        ".removeprefix('MOSTLY_').removeprefix('ALL_').lower(): v for k, v in "
        "vars(llama_cpp).items() if k.startswith('LLAMA_FTYPE_')}))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    theirs = json.loads(said.stdout)
    assert {name: theirs[name] for name in FILE_TYPES} == FILE_TYPES


def test_given_limits_count_and_the_others_stay():
    own = limits_for("q8_0", GivenLimits())
    mixed = limits_for("q8_0", GivenLimits(mean_kl=0.5))
    assert (mixed.mean_kl, mixed.top1) == (0.5, own.top1)
    assert limits_for("f16", GivenLimits()).mean_kl < own.mean_kl
    assert own.mean_kl < limits_for("q4_k_m", GivenLimits()).mean_kl


def test_estimates_are_on_the_high_side():
    # measured: the 270M shape (268,098,176 weights), bf16 543 MB, q8_0 292 MB, q4_k_m 254 MB;
    # the tokenizer is part of the first figure
    assert estimated_bytes("bf16", 268_098_176) == 536_196_352
    assert estimated_bytes("q4_k_m", 268_098_176) > 254e6


def test_distance_of_two_coins():
    # KL of (1/2, 1/2) from (1/4, 3/4) is ln 2 - (ln 3) / 2 = 0.1438; the first token differs
    reference = np.log(np.array([[0.5, 0.5], [0.25, 0.75]], dtype=np.float32))
    other = np.log(np.array([[0.25, 0.75], [0.25, 0.75]], dtype=np.float32))
    distance = compare_logits(reference, other + 7.0)  # a constant changes no distribution
    assert distance.kl_sum == pytest.approx(np.log(2) - np.log(3) / 2, abs=1e-6)
    assert (distance.positions, distance.top1_same) == (2, 1)
    assert (distance + Distance()).mean_kl == pytest.approx(distance.kl_sum / 2)


def test_surplus_columns_are_left_out():
    reference = np.array([[1.0, 2.0, 9.0]], dtype=np.float32)
    assert compare_logits(reference, reference[:, :2]).mean_kl == pytest.approx(0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad):
    distance = compare_logits(np.zeros((1, 2)), np.array([[0.0, bad]]))
    assert distance.mean_kl == float("inf")
    assert distance.as_json()["mean_kl"] is None


def test_positions_must_be_the_same():
    with pytest.raises(ValueError, match="1 positions against 2"):
        compare_logits(np.zeros((1, 2)), np.zeros((2, 2)))


def test_identical_counts_whole_replies():
    assert identical([[1, 2], [3]], [[1, 2], [3, 4]]) == 1


def test_fingerprint_follows_weights_and_tokenizer_only(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert fingerprint(tmp_path) == before
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path) != before


def test_no_room_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match=r"needs about 1048576\.0 GiB"):
        require_free(tmp_path / "not" / "yet", 1 << 50, "the merged model")


def test_questions_come_from_the_nearest_source(tmp_path, monkeypatch):
    monkeypatch.delenv("GSM8K_DIR", raising=False)
    assert load_questions(None, tmp_path).texts == BUILT_IN
    gsm8k = tmp_path / "gsm8k"
    gsm8k.mkdir()
    (gsm8k / "test.jsonl").write_text('{"question": "from gsm8k?", "answer": "#### 1"}\n')
    monkeypatch.setenv("GSM8K_DIR", str(gsm8k))
    assert load_questions(None, tmp_path).texts == ("from gsm8k?",)
    (tmp_path / "holdout").mkdir()
    (tmp_path / "holdout" / "before.json").write_text('{"items": [{"question": "held out?"}]}')
    assert load_questions(None, tmp_path).texts == ("held out?",)
    assert load_questions(gsm8k / "test.jsonl", tmp_path).source == "test.jsonl"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("{", "line 1: not JSON", id="not-json"),
        pytest.param('{"q": 1}', '"question"', id="no-question"),
    ],
)
def test_broken_question_files(tmp_path, content, expected):
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        load_questions(path, None)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(
            {"type": "BPE", "byte_fallback": True, "merges": [["a", "b"]]}, True, id="gemma"
        ),
        pytest.param(
            {"type": "BPE", "byte_fallback": False, "merges": [["a", "b"]]}, False, id="gpt2"
        ),
        pytest.param({"type": "Unigram", "byte_fallback": True}, False, id="unigram"),
    ],
)
def test_is_gemma_form(model, expected):
    assert is_gemma_form({"model": model}) is expected


def test_complete_settings_adds_and_keeps():
    tokenizer = {
        "added_tokens": [
            {"id": 2, "content": "<bos>", "special": True},
            {"id": 6, "content": "<end_of_turn>", "special": True},
        ]
    }
    stored = {"added_tokens_decoder": {"2": {"content": "<s>"}}, "add_bos_token": True}
    completed = complete_settings(stored, tokenizer)
    assert completed["added_tokens_decoder"] == {
        "2": {"content": "<s>"},
        "6": {"content": "<end_of_turn>", "special": True},
    }
    assert completed["add_bos_token"] is True


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, r"config\.json", id="empty"),
        pytest.param({"config.json": "{}"}, r"no \.safetensors", id="no-weights"),
        pytest.param(
            {"config.json": "{}", "model.safetensors": ""}, "tokenizer.json", id="no-tokenizer"
        ),
        pytest.param(
            {"config.json": '{"quantization_config": {"load_in_4bit": true}}'},
            "quantized weights",
            id="4-bit",
        ),
    ],
)
def test_folders_that_cannot_be_converted(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=expected):
        check_model_folder(tmp_path)


def test_ollama_template_is_read_off_the_model_s_own():
    def gemma(messages, *, add_generation_prompt):
        system = ""
        if messages[0]["role"] == "system":
            system, messages = messages[0]["content"] + "\n\n", messages[1:]
        text = f"<bos><start_of_turn>user\n{system}{messages[0]['content']}<end_of_turn>\n"
        for message in messages[1:]:
            text += f"<start_of_turn>model\n{message['content']}<end_of_turn>\n"
        return text + ("<start_of_turn>model\n" if add_generation_prompt else "")

    # the form of Ollama's own one-turn templates, system and question in one user turn
    assert ollama_template(gemma, "<bos>") == (
        "{{ if .System }}<start_of_turn>user\n{{ .System }}\n\n"
        "{{ else }}<start_of_turn>user\n{{ end }}"
        "{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n{{ .Response }}<end_of_turn>\n"
    )


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        pytest.param("model.layers.3.self_attn.q_proj", "blk.3.attn_q.weight", id="text"),
        pytest.param(
            "model.language_model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight", id="multimodal"
        ),
        pytest.param("model.vision_tower.encoder.layers.0.self_attn.q_proj", None, id="vision"),
        pytest.param("model.layers.0.self_attn.q_norm", None, id="norm"),
        pytest.param("lm_head", None, id="head"),
    ],
)
def test_names_in_the_importance_matrix(module, expected):
    assert gguf_name(module) == expected


def archive_of(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_only_the_converter_leaves_the_archive(tmp_path, monkeypatch):
    archive = archive_of(
        tmp_path / "sdist.tar.gz",
        {
            converter.INSIDE + converter.SCRIPT: b"print()",
            converter.INSIDE + "gguf-py/gguf/__init__.py": b"",
            converter.INSIDE + "conversion/link.py": None,
            converter.INSIDE + "src/llama.cpp": b"not wanted",
            "llama_cpp_python-0.3.36/setup.py": b"not wanted",
        },
    )
    monkeypatch.setattr(converter, "SDIST_SHA256", sha256_of(archive))
    out = converter.unpack(archive, tmp_path / "out")
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [converter.SCRIPT, "gguf-py/gguf/__init__.py"]


def test_member_that_climbs_out_is_refused(tmp_path, monkeypatch):
    climbing = converter.INSIDE + "gguf-py/../../../escaped.py"
    archive = archive_of(tmp_path / "sdist.tar.gz", {climbing: b"print()"})
    monkeypatch.setattr(converter, "SDIST_SHA256", sha256_of(archive))
    with pytest.raises(tarfile.OutsideDestinationError):
        converter.unpack(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("escaped.py"))


def test_another_archive_is_not_opened(tmp_path):
    path = tmp_path / "sdist.tar.gz"
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="nothing of it was run"):
        converter.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_llama_cpp_dir_is_honoured_and_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"expected convert_hf_to_gguf\.py"):
        converter.find_converter(print)
    (tmp_path / converter.SCRIPT).write_text("")
    (tmp_path / "gguf-py").mkdir()
    assert converter.find_converter(print) == tmp_path


def test_cache_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XMLGRPO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert converter.cache_folder() == tmp_path / "xdg" / "xmlgrpo" / "llama.cpp"
    monkeypatch.setenv("XMLGRPO_CACHE", str(tmp_path / "mine"))
    assert converter.cache_folder() == tmp_path / "mine" / "llama.cpp"


def test_missing_runtime_says_how_to_get_it(monkeypatch):
    def missing(_name):
        raise converter.PackageNotFoundError

    monkeypatch.setattr(converter, "version", missing)
    with pytest.raises(UserError, match="make gguf-setup"):
        converter.require_runtime()


def test_other_runtime_is_refused_unless_the_user_answers_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "version", lambda _name: "0.4.0")
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    with pytest.raises(UserError, match=r"expected llama-cpp-python 0\.3\.36, found 0\.4\.0"):
        converter.require_runtime()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    converter.require_runtime()


@pytest.mark.parametrize(
    ("script", "why", "said"),
    [
        pytest.param("print('fine')", "", "fine", id="fine"),
        pytest.param("import sys; sys.exit('no')", "ended with exit code 1", "no", id="fails"),
        pytest.param("import os; os.abort()", "was killed by signal 6", "", id="aborts"),
        pytest.param(
            "b = bytearray(1 << 40)", "ended with exit code 1", "MemoryError", id="greedy"
        ),
        pytest.param("while True: pass", "took longer than 2 s", "", id="never-ends"),
    ],
)
def test_children_end_one_way_or_another(tmp_path, script, why, said):
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=2, memory_bytes=1 << 30)
    assert (ended.ok, ended.why) == (not why, why)
    assert said in ended.log_tail


def test_children_see_no_tokens_and_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    script = (
        "import os; print(os.environ.get('HF_TOKEN'), repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    ended = run_child(["-c", script], log=tmp_path / "log", timeout_s=60)
    assert ended.log_tail.split() == ["None", "''"]

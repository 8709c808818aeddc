"""A result stands for the weights that it was measured on, and for no others of that name."""

import json
import shutil

import pytest

from xmlgrpo_exporter.card.results import read_results
from xmlgrpo_exporter.upload.base_model import BaseModel
from xmlgrpo_exporter.upload.contents import Contents
from xmlgrpo_exporter.upload.evidence import evidence_problems
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import digest, model_files
from xmlgrpo_run.folder import RunFolder

from . import run_folders
from .cards import write_evaluation
from .publishing import MARKS, publish

pytestmark = MARKS

ON_THE_HUB = BaseModel("google/gemma-3-1b-it")
OTHER = run_folders.safetensors(900, b"\2")  # as large as the merged weights, and others


def record(run, label: str, files) -> None:
    """An evaluation of a model of these files, as the evaluator records it."""
    evaluation = json.loads((run / "eval/tuned.json").read_text())
    evaluation["label"] = label
    evaluation["subject"]["model"] = {"content": digest(files)}
    run_folders.write_json(run / "eval" / f"{label}.json", evaluation)


@pytest.fixture
def run(run):
    """The run, every form of it evaluated on the weights that lie there."""
    write_evaluation(run)
    record(run, "tuned", model_files(run / "adapter"))
    record(run, "merged", model_files(run / "merged"))
    gguf = run / "gguf/gsm8k-1b-q8_0.gguf"
    record(run, "gsm8k-1b-q8_0", model_files(gguf, tokenizer=run / "adapter"))
    return run


def problems(run, base=ON_THE_HUB) -> list[str]:
    return evidence_problems(RunFolder(run), base, read_results(run, None))


def test_the_weights_that_were_measured_may_go(hub, run):
    assert problems(run) == []
    assert publish(hub, run)[0] == 0


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        pytest.param(
            "merged/model.safetensors",
            OTHER,
            ["merged has changed since it was compared", "merged.json was measured on other"],
            id="merged-weights",
        ),
        pytest.param(
            "merged/config.json",
            b"{}",
            ["merged has changed since it was compared", "merged.json was measured on other"],
            id="merged-config",
        ),
        pytest.param(
            "adapter/adapter_model.safetensors",
            OTHER,
            [
                "adapter is not the adapter that training left there",
                "merged was merged from another adapter",
                "tuned.json was measured on other weights",
            ],
            id="adapter",
        ),
        pytest.param(
            "gguf/gsm8k-1b-q8_0.gguf",
            run_folders.gguf(b"\7"),
            ["gsm8k-1b-q8_0.json was measured on other weights"],
            id="gguf",
        ),
    ],
)
def test_weights_replaced_since_are_refused(hub, run, file, content, expected):
    (run / file).write_bytes(content)
    found = problems(run)
    assert len(found) == len(expected)
    for problem, words in zip(found, expected, strict=True):
        assert words in problem
        assert "make " in problem or "put it back" in problem, "it does not say what to do"
    with pytest.raises(UserError, match="nothing was published"):
        publish(hub, run)
    assert hub.writes() == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("adapter_model.safetensors", OTHER, id="weights"),
        pytest.param("adapter_config.json", b'{"lora_alpha": 999}', id="scale"),
        pytest.param("tokenizer.json", b"{}", id="tokenizer"),
    ],
)
def test_another_adapter_than_training_left_is_refused(hub, run, file, content):
    (run / "eval/tuned.json").unlink()
    (run / "adapter" / file).write_bytes(content)
    with pytest.raises(UserError, match="adapter is not the adapter that training left there"):
        publish(hub, run, "--what", "adapter")
    assert hub.writes() == []


@pytest.fixture
def measured(run, tmp_path):
    """The run over a local base of some size, its adapter evaluated as the evaluator does now."""
    base = tmp_path / "base"
    run_folders.write_merged(base, n_bytes=3000)
    local = BaseModel(folder=base, label="base")
    evaluation = json.loads((run / "eval/tuned.json").read_text())
    contents = Contents(RunFolder(run), local)
    evaluation["subject"]["model"] = {"content": contents.content("tuned")}
    run_folders.write_json(run / "eval/tuned.json", evaluation)
    shutil.rmtree(run / "merged")
    return local


@pytest.mark.parametrize("file", ["base/model.safetensors", "gsm8k-1b/adapter/adapter_config.json"])
def test_a_byte_in_the_middle_or_in_a_config_is_seen(run, measured, tmp_path, file):
    assert problems(run, measured) == []
    path = tmp_path / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "tuned.json was measured on other weights" in problems(run, measured)[-1]


def test_ggufs_of_another_merge_are_refused(run):
    run_folders.write_merged(run / "merged", n_bytes=901)
    check = (run / "gguf/check.json").read_bytes()
    run_folders.write_gates(run)
    (run / "gguf/check.json").write_bytes(check)
    assert "the GGUF files were made from other merged weights" in problems(run)[0]


def test_a_local_base_is_part_of_what_was_measured(run, tmp_path):
    base = tmp_path / "base"
    run_folders.write_merged(base)
    record(run, "tuned", model_files(base, run / "adapter"))
    local = BaseModel(folder=base, label="base")
    assert problems(run, local) == []
    run_folders.write_merged(base, n_bytes=901)
    assert "tuned.json was measured on other weights" in problems(run, local)[0]
    # where the base is gone nobody can tell, so nothing is claimed
    assert problems(run, BaseModel(label="base")) == []


def test_results_of_other_models_stay_at_home(hub, run):
    record(run, "somebody-elses", model_files(run / "merged"))
    run_folders.write_json(run / "eval/notes.json", {"better": "99%"})
    _, printed = publish(hub, run, "--dry-run")
    assert "results/eval/tuned.json" in printed
    for name in ("somebody-elses.json", "notes.json"):
        assert f"results/eval/{name}" not in printed
        assert f"stays here: {run / 'eval' / name}" in printed.replace("\n", "")


def test_a_result_that_no_command_writes_is_named(run, hub):
    evaluation = json.loads((run / "eval/tuned.json").read_text())
    evaluation["tasks"]["gsm8k_xml"]["metrics"]["strict_accuracy"] = {"mean": "high"}
    run_folders.write_json(run / "eval/merged.json", evaluation | {"label": "merged"})
    with pytest.raises(UserError, match=r"results/eval/merged\.json: .* at /tasks/gsm8k_xml/"):
        publish(hub, run, "--dry-run")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("ladder.json", {"rungs": {"a": 1}, "passed": True}, id="no-list"),
        pytest.param("ladder.json", {"rungs": [1, 2], "passed": True}, id="rungs-that-are-none"),
        pytest.param("ladder.json", [], id="no-object"),
        pytest.param("eval/merged.json", "broken", id="a-string"),
        pytest.param("gguf/check.json", [1], id="a-list"),
        pytest.param("manifest.json", run_folders.MANIFEST | {"rewards": [1]}, id="rewards"),
        pytest.param(
            "manifest.json",
            run_folders.MANIFEST
            | {"holdout": {"rows": 1, "before": {}, "after": {"strict_accuracy": 3}}},
            id="held-out-result",
        ),
    ],
)
def test_a_file_of_another_shape_is_named_in_one_line(run, hub, file, content):
    run_folders.write_json(run / file, content)
    with pytest.raises(UserError, match=file.rpartition("/")[2]) as refusal:
        publish(hub, run, "--dry-run")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "changed",
    [{"label": ["merged"]}, {"tasks": []}, {"tasks": {"x": {"metrics": 3}}}, {"first": 3}],
    ids=str,
)
def test_what_is_no_result_stays_at_home(run, hub, changed):
    evaluation = json.loads((run / "eval/tuned.json").read_text())
    run_folders.write_json(run / "eval/odd.json", evaluation | changed)
    _, printed = publish(hub, run, "--dry-run")
    assert "results/eval/odd.json" not in printed

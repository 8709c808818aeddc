"""A result stands for the weights that it was measured on, and for no others of that name."""

import json
import shutil

import pytest

from xmlgrpo_exporter.proof.blockers import model_digests, result_problems
from xmlgrpo_rewards.errors import UserError

from .. import run_folders
from ..cards import prepared, write_evaluation
from ..exporting import QUIET
from ..publishing import MARKS, publish

pytestmark = MARKS

OTHER = run_folders.safetensors(900, b"\2")  # as large as the merged weights, and others


def record(run, label: str, **more) -> None:
    """An evaluation of the model of that label, as the evaluator records it."""
    evaluation = json.loads((run / "eval/tuned.json").read_text())
    evaluation["label"] = label
    evaluation["subject"]["model"] = {"content": run_folders.content(run, label, **more)}
    run_folders.write_json(run / "eval" / f"{label}.json", evaluation)


@pytest.fixture
def run(run):
    """The run, every form of it evaluated on the weights that lie there."""
    write_evaluation(run)
    for label in ("tuned", "merged", "gsm8k-1b-q8_0"):
        record(run, label)
    return run


def problems(run) -> list[str]:
    release = prepared(run)
    return list(result_problems(release, model_digests(release, QUIET)))


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
    for name in ("eval", "merged", "gguf"):
        shutil.rmtree(run / name)
    (run / "ladder.json").unlink()
    (run / "adapter" / file).write_bytes(content)
    with pytest.raises(UserError, match="adapter is not the adapter that training left there"):
        publish(hub, run, "--what", "adapter")
    assert hub.writes() == []


@pytest.fixture
def local_base(run, tmp_path):
    """The run over a local base of some size, its adapter evaluated on it; the base's folder."""
    base = tmp_path / "base"
    run_folders.write_merged(base, n_bytes=3_000_000)
    manifest = json.loads((run / "manifest.json").read_text())
    place = {"path": str(base), "from_run": "../base"}
    manifest["base"] |= {"name": str(base), "place": place, "revision": None}
    run_folders.write_json(run / "manifest.json", manifest)
    (run / "ladder.json").unlink()
    record(run, "tuned", base=base)
    return base


def test_a_byte_in_the_middle_of_a_local_base_is_seen(run, local_base):
    assert problems(run) == []
    path = local_base / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (problem,) = problems(run)
    assert "tuned.json was measured on other weights" in problem
    shutil.rmtree(local_base)  # where the base is gone nobody can tell, so nothing is claimed
    assert problems(run) == []


def test_a_run_that_was_moved_with_its_base_keeps_its_results(run, local_base, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = [path.rename(tmp_path / "elsewhere" / path.name) for path in (run, local_base)]
    assert problems(moved[0]) == []
    base = prepared(moved[0]).base.folder
    assert base is not None
    assert base.samefile(moved[1])


def test_ggufs_of_another_merge_are_refused(run):
    run_folders.write_merged(run / "merged", n_bytes=901)
    check = (run / "gguf/check.json").read_bytes()
    run_folders.write_gates(run)
    (run / "gguf/check.json").write_bytes(check)
    assert "the GGUF files were made from other merged weights" in problems(run)[0]


def test_results_of_other_models_stay_at_home(hub, run):
    run_folders.write_gguf(run / "gguf", "somebody-elses.gguf")
    record(run, "somebody-elses")
    (run / "gguf/somebody-elses.gguf").unlink()
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

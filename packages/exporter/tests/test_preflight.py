"""What is found before the first byte: tokens, names, visibility, room, gates."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from xmlgrpo_exporter.gates import gate_problems
from xmlgrpo_exporter.preflight import check_names
from xmlgrpo_exporter.run_results import read_results
from xmlgrpo_exporter.upload_plan import PlannedFile
from xmlgrpo_rewards.errors import UserError

from . import run_folders
from .hub_server import Repo
from .publishing import MARKS, READ, REPO, publish

pytestmark = MARKS


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param(READ, "may only read", id="read-only-token"),
        pytest.param("hf_" + "x" * 30, "wrong or has expired", id="unknown-token"),
        pytest.param("hf_中文", "something that is no token", id="no-header-value"),
        pytest.param("hf_a b", "something that is no token", id="two-words"),
        pytest.param("", "no Hugging Face token: set HF_TOKEN", id="no-token"),
    ],
)
def test_a_token_that_may_not_write_stops_it_before_the_first_byte(
    hub, run, monkeypatch, token, expected
):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(run / "no-token"))
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=expected):
        publish(hub, run)
    assert hub.writes() == []


def test_a_token_of_somebody_else_stops_it(hub, run):
    with pytest.raises(UserError, match="who is not in bob; publish to alice/gsm8k-1b"):
        publish(hub, run, repo="bob/gsm8k-1b")
    assert hub.writes() == []


@pytest.mark.parametrize(
    ("private", "options", "expected"),
    [
        pytest.param(False, (), "exists and is public", id="public-repo"),
        pytest.param(True, ("--public",), "does not open an existing", id="private-repo"),
    ],
)
def test_another_visibility_than_asked_for_stops_it(hub, run, private, options, expected):
    hub.repos[REPO] = Repo(private)
    with pytest.raises(UserError, match=expected):
        publish(hub, run, *options)
    assert hub.writes() == []


def test_a_full_disk_here_is_found_before_the_first_byte(hub, run, monkeypatch):
    from xmlgrpo_exporter import preflight

    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"0 MiB free; comparing the upload needs 64 MiB"):
        publish(hub, run)
    assert hub.writes() == []


def test_several_problems_are_told_at_once(hub, run):
    run_folders.write_gates(run, check=False, ladder=False)
    with pytest.raises(UserError, match=r"(?s)2 reasons:.*check did not pass.*ladder did not pass"):
        publish(hub, run)
    assert hub.writes() == []


@pytest.mark.parametrize(
    ("repo", "revision"),
    [
        ("name-only", "main"),
        ("a/b/c", "main"),
        ("me/na me", "main"),
        ("me/-name", "main"),
        ("me/a..b", "main"),
        ("me/a--b", "main"),
        ("me/x.git", "main"),
        ("me/" + "x" * 96, "main"),
        ("me/名", "main"),
        ("me/x", "a..b"),
        ("me/x", "a b"),
        ("me/x", "-rf"),
        ("me/x", "refs/pr/1"),
        ("me/x", "0" * 40),
        ("me/x", "x.lock"),
    ],
)
def test_names_that_the_hub_would_refuse_are_refused_here(repo, revision):
    with pytest.raises(UserError, match="expected"):
        check_names(repo, revision)


@pytest.mark.parametrize("revision", ["main", "steps/40", "q4_k_m", "v1.0"])
def test_ordinary_names_pass(revision):
    check_names("me-2/gsm8k_1b.v2", revision)


def planned(run: Path) -> list[PlannedFile]:
    files = [
        ("model.safetensors", run / "merged/model.safetensors"),
        *((path.name, path) for path in sorted((run / "gguf").glob("*.gguf"))),
    ]
    return [
        PlannedFile(target, "weights", path, 0, hashlib.sha256(path.read_bytes()).hexdigest())
        for target, path in files
    ]


@pytest.mark.parametrize(
    ("check", "ladder", "ungated", "expected"),
    [
        pytest.param(True, True, False, [], id="both-passed"),
        pytest.param(False, True, False, ["check did not pass"], id="check-failed"),
        pytest.param(True, False, False, ["ladder did not pass"], id="ladder-failed"),
        pytest.param(None, True, False, ["check has not run"], id="check-missing"),
        pytest.param(True, None, False, ["ladder has not run"], id="ladder-missing"),
        pytest.param(None, None, True, [], id="missing-waived"),
        pytest.param(False, True, True, ["check did not pass"], id="a-failure-is-never-waived"),
    ],
)
def test_the_gates(tmp_path, check, ladder, ungated, expected):
    run_folders.write_full_run(tmp_path)
    run_folders.write_gates(tmp_path, check=check is True, ladder=ladder is True)
    if check is None:
        (tmp_path / "gguf/check.json").unlink()
    if ladder is None:
        (tmp_path / "ladder.json").unlink()
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=ungated)
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
        assert "un: " in problem, "it does not say what to run"


def test_a_file_that_changed_after_its_check_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    (tmp_path / "gguf/gsm8k-1b-q8_0.gguf").write_bytes(run_folders.gguf(b"\7"))
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=False)
    assert [problem.split(" has")[0] for problem in problems] == ["gsm8k-1b-q8_0.gguf"]


def test_a_file_that_the_ladder_never_saw_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    run_folders.write_gguf(tmp_path / "gguf", "late-q8_0.gguf")
    ladder = (tmp_path / "ladder.json").read_bytes()
    run_folders.write_gates(tmp_path)
    (tmp_path / "ladder.json").write_bytes(ladder)
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=False)
    assert problems == ("the ladder has no result of late-q8_0. Run: make ladder RUN=…",)


def test_an_adapter_needs_no_gate(tmp_path):
    run_folders.write_adapter(tmp_path / "adapter")
    results = read_results(tmp_path, None)
    adapter = PlannedFile("adapter_model.safetensors", "weights", b"", 0, "")
    assert gate_problems(results, [adapter], ungated=False) == ()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--what", "weights"), id="what"),
        pytest.param(("--revision", "a b"), id="revision"),
        pytest.param(("--run", "no-such-run"), id="run"),
        pytest.param(("--base-id", "gemma"), id="base-id"),
    ],
)
def test_a_wrong_word_is_refused_before_the_hub_is_asked(hub, run, options):
    with pytest.raises(UserError, match=r"expected|no run folder"):
        publish(hub, run, *options)
    assert hub.requests == []


def test_a_run_whose_training_has_not_finished_is_not_one_from_elsewhere(hub, run):
    (run / "manifest.json").unlink()
    (run / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="training has not finished"):
        publish(hub, run)
    assert hub.writes() == []

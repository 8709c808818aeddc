"""What is found before the first byte: tokens, names, visibility, room, gates."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from hub_server import Repo
from xmlgrpo_exporter.cli import parser
from xmlgrpo_exporter.proof.blockers import gate_problems, model_digests
from xmlgrpo_exporter.publish.preflight import check_names
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder, find_run

from .. import run_folders
from ..cards import prepared
from ..exporting import QUIET
from ..publishing import MARKS, READ, REPO, publish

pytestmark = MARKS
ROOT = Path(__file__).parents[4]


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


def test_several_problems_are_named_at_once(hub, run):
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


def gates(run: Path, *what: str, ungated: bool = False) -> list[str]:
    release = prepared(run, *what)
    return list(gate_problems(release, model_digests(release, QUIET), ungated=ungated))


def assert_works_as_printed(problem: str, run: Path) -> None:
    """The command in a problem's hint is one of ours, of this very run."""
    printed = problem.partition("un: ")[2].partition("; or say --ungated")[0]
    script, *words = shlex.split(printed)
    if script == "make":
        target, name = words
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        assert find_run(name.removeprefix("RUN=")) == RunFolder(run)
    else:
        assert script == sys.argv[0], "the script that printed it"
        assert find_run(parser().parse_args(words).run) == RunFolder(run)


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
    problems = gates(tmp_path, ungated=ungated)
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
        assert_works_as_printed(problem, tmp_path)


def test_a_file_that_changed_after_its_check_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    (tmp_path / "gguf/gsm8k-1b-q8_0.gguf").write_bytes(run_folders.gguf(b"\7"))
    problems = gates(tmp_path)
    assert [problem.split(". ")[0] for problem in problems] == [
        "gsm8k-1b-q8_0.gguf has changed since the export's check, or has none",
        "the ladder has not run on these files (gsm8k-1b-q8_0)",
    ]


def test_a_file_that_the_ladder_never_saw_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    run_folders.write_gguf(tmp_path / "gguf", "late-q8_0.gguf")
    ladder = (tmp_path / "ladder.json").read_bytes()
    run_folders.write_gates(tmp_path)
    (tmp_path / "ladder.json").write_bytes(ladder)
    problems = gates(tmp_path)
    expected = f"the ladder has not run on these files (late-q8_0). Run: make ladder RUN={tmp_path}"
    assert problems == [expected]


def test_a_ladder_that_names_no_bytes_or_other_ones_is_none_of_these_files(tmp_path):
    run_folders.write_full_run(tmp_path)
    ladder = json.loads((tmp_path / "ladder.json").read_text())
    for rung in ladder["rungs"]:
        if rung["label"] == "merged":
            del rung["content"]
        elif rung["label"] == "gsm8k-1b-q8_0":
            rung["content"] = "0" * 64
    run_folders.write_json(tmp_path / "ladder.json", ladder)
    problems = gates(tmp_path, ungated=True)  # it ran, and not on these: nothing to be waived
    assert [problem.partition(". ")[0] for problem in problems] == [
        "the ladder has not run on these files (gsm8k-1b-q8_0)",
        "the ladder has not run on these files (merged)",
    ]


def test_files_exported_again_do_not_go_with_the_ladder_of_the_old_ones(hub, run):
    ladder = (run / "ladder.json").read_bytes()
    for folder in ("eval", "merged", "gguf"):
        shutil.rmtree(run / folder, ignore_errors=True)
    run_folders.write_merged(run / "merged", n_bytes=901)
    run_folders.write_gguf(run / "gguf", "gsm8k-1b-q8_0.gguf")
    run_folders.write_gates(run)  # the merge and the export's check ran again, and passed
    (run / "ladder.json").write_bytes(ladder)
    with pytest.raises(UserError, match=r"ladder has not run on these files \(merged\)"):
        publish(hub, run)
    assert hub.writes() == []


def test_an_adapter_with_a_ladder_of_another_one_is_refused(hub, run):
    run_folders.write_json(run / "adapter/adapter_config.json", {"lora_alpha": 999})
    with pytest.raises(UserError, match=r"ladder has not run on these files \(tuned\)"):
        publish(hub, run, "--what", "adapter")
    assert hub.writes() == []


def test_an_adapter_needs_no_gate(tmp_path):
    run_folders.write_adapter(tmp_path / "adapter")
    assert gates(tmp_path) == []


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
    with pytest.raises(UserError, match=r"expected|no run at"):
        publish(hub, run, *options)
    assert hub.requests == []


def test_a_run_whose_training_has_not_finished_is_not_one_from_elsewhere(hub, run):
    (run / "manifest.json").unlink()
    (run / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="training has not finished"):
        publish(hub, run)
    assert hub.writes() == []

"""Publishing with the real client against a hub on 127.0.0.1."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import _http, disable_progress_bars, enable_progress_bars
from rich.console import Console

from xmlgrpo_exporter import hub_calls
from xmlgrpo_exporter.cli import build_parser
from xmlgrpo_exporter.commands.push import push
from xmlgrpo_rewards.errors import UserError

from . import run_folders
from .hub_server import Blob, Failure, Hub, Repo, serve

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    # huggingface_hub 1.33 hands httpx its LFS contents in the old way
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

WRITE = "hf_CANARYwriteCANARYwriteCANARY12"
READ = "hf_CANARYreadCANARYreadCANARY3456"
REPO = "alice/gsm8k-1b"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, and a client that asks it by LFS, keeps its files in `tmp_path` and never waits."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", WRITE)
    monkeypatch.setattr(hub_calls, "WAIT_S", 0)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    disable_progress_bars()
    with serve({WRITE: ("alice", "write"), READ: ("alice", "read")}) as hub:
        yield hub
    enable_progress_bars()


@pytest.fixture
def run(tmp_path):
    return run_folders.write_full_run(tmp_path / "gsm8k-1b")


def publish(hub: Hub, run: Path, *options: str, repo: str = REPO) -> tuple[int, str]:
    """Run `push` in this process; returns the exit code and what it printed."""
    words = ["push", "--run", str(run), "--repo", repo, *options]
    arguments = build_parser().parse_args(words)
    screen = io.StringIO()
    code = push(arguments, HfApi(endpoint=hub.url), Console(file=screen, width=200))
    return code, screen.getvalue()


def puts(hub: Hub) -> list[str]:
    return [write for write in hub.writes() if write.startswith("PUT")]


def test_the_first_push_arrives_whole_private_and_tagged(hub, run):
    code, printed = publish(hub, run)
    repo = hub.repos[REPO]
    assert (code, repo.private, len(repo.commits)) == (0, True, 2)
    tree = repo.tree()
    assert tree["model.safetensors"].content == (run / "merged/model.safetensors").read_bytes()
    assert (
        tree["adapter/adapter_model.safetensors"].content
        == (run / "adapter/adapter_model.safetensors").read_bytes()
    )
    assert tree["README.md"].content == (run / "hub/README.md").read_bytes()
    assert list(repo.tags.values()) == [repo.branches["main"]]
    assert f"{hub.url}/{REPO}" in printed
    record = json.loads((run / "hub/pushed.json").read_text())
    assert {file["target"] for file in record["files"]} == set(tree)
    assert record["commit"] == repo.branches["main"]


def test_only_what_the_allow_list_names_arrives(hub, run):
    publish(hub, run)
    assert sorted(hub.repos[REPO].tree()) == [
        "Notice",
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/tokenizer.json",
        "config.json",
        "gsm8k-1b-q4_k_m.gguf",
        "gsm8k-1b-q8_0.gguf",
        "model.safetensors",
        "results/config.json",
        "results/curves.png",
        "results/gguf-check.json",
        "results/ladder.json",
        "results/manifest.json",
        "tokenizer.json",
    ]
    assert not any(
        b"not for the public" in blob.content for blob in hub.repos[REPO].tree().values()
    )


def test_an_unchanged_push_sends_nothing_again(hub, run):
    publish(hub, run)
    commits, sent = len(hub.repos[REPO].commits), len(puts(hub))
    code, printed = publish(hub, run)
    assert (code, len(hub.repos[REPO].commits), len(puts(hub))) == (0, commits, sent)
    assert "was up to date" in printed


def test_a_changed_file_goes_up_alone(hub, run):
    publish(hub, run)
    before = len(puts(hub))
    (run / "adapter/adapter_model.safetensors").write_bytes(run_folders.safetensors(301))
    publish(hub, run)
    assert len(puts(hub)) == before + 1
    assert len(hub.repos[REPO].tags) == 2


def test_a_dry_run_writes_nothing_here_or_there(hub, run):
    before = sorted(path for path in run.rglob("*"))
    code, printed = publish(hub, run, "--dry-run")
    assert code == 0
    assert hub.writes() == []
    assert sorted(path for path in run.rglob("*")) == before
    for expected in (
        "# `gsm8k-1b`",
        r"[0-9a-f]{64} +977  weights +model\.safetensors\n",
        r"stays here: .*training_args\.bin",
        f"to {hub.url}/{REPO} on main",
    ):
        assert re.search(expected, printed), expected


def test_a_dry_run_says_what_would_be_refused(hub, run):
    run_folders.write_gates(run, check=False)
    hub.repos[REPO] = Repo(private=False)
    code, printed = publish(hub, run, "--dry-run")
    assert code == 2
    assert "would be refused: the export's check did not pass" in printed
    assert f"would be refused: {REPO} exists and is public" in printed


@pytest.mark.parametrize(
    ("failure", "commits"),
    [
        pytest.param(Failure("GET /api/whoami", 503), 1, id="whoami-503"),
        pytest.param(Failure("POST /api/repos/create", 500), 1, id="create-500"),
        pytest.param(Failure("POST /api/repos/create", 500, done=True), 1, id="create-answer-lost"),
        pytest.param(Failure("POST .*/preupload/", 503, times=4), 1, id="preupload-503-storm"),
        pytest.param(Failure("PUT /lfs/", 500, times=5), 1, id="content-500-storm"),
        pytest.param(Failure("POST .*/commit/", 503), 1, id="commit-503"),
        pytest.param(Failure("POST .*/commit/", 500, done=True), 1, id="commit-answer-lost"),
        pytest.param(Failure("POST .*/tag/", 502), 1, id="tag-502"),
        pytest.param(Failure("GET .*/resolve/", 503), 1, id="read-back-503"),
        pytest.param(
            Failure("POST /api/validate-yaml", 503, page=b"<html>busy</html>"), 1, id="html-page"
        ),
    ],
)
def test_a_passing_failure_is_ridden_out(hub, run, failure, commits):
    hub.failures.append(failure)
    code, _ = publish(hub, run)
    assert code == 0
    assert failure.times == 0, "the failure never happened"
    assert len(hub.repos[REPO].messages) == commits
    assert len(hub.repos[REPO].tags) == 1


@pytest.mark.parametrize(
    "pattern",
    ["GET /api/whoami", "POST /api/repos/create", "PUT /lfs/", "POST .*/commit/", "POST .*/tag/"],
)
def test_a_lasting_failure_ends_in_words_and_the_next_push_continues(hub, run, pattern):
    storm = Failure(pattern, 503, times=10_000)
    hub.failures.append(storm)
    with pytest.raises(UserError, match=r"(?s)503.*run the same command again"):
        publish(hub, run)
    kept = set(hub.lfs)
    storm.times = 0
    before = len(puts(hub))
    assert publish(hub, run)[0] == 0
    sent = {put.rpartition("/")[2] for put in puts(hub)[before:]}
    assert not sent & kept
    assert len(hub.repos[REPO].tags) == 1


def test_a_killed_push_is_continued_and_nothing_is_sent_twice(hub, run):
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITE, "HF_HOME": str(run.parent / "home")}
    main = "from xmlgrpo_exporter.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", main, "push", "--run", str(run), "--repo", REPO],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def kill_at_the_third_content(request):
        if len(puts(hub)) == 3 and process.poll() is None:
            process.kill()
            process.wait()

    hub.before = kill_at_the_third_content
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert hub.repos[REPO].messages == []
    kept = set(hub.lfs)
    assert kept
    before = len(puts(hub))
    assert publish(hub, run)[0] == 0
    sent = {put.rpartition("/")[2] for put in puts(hub)[before:]}
    assert sent.isdisjoint(kept)
    assert len(hub.repos[REPO].messages) == 1


def test_somebody_else_commits_meanwhile(hub, run):
    publish(hub, run)
    (run / "adapter/adapter_model.safetensors").write_bytes(run_folders.safetensors(301))

    def commit_first(request):
        repo = hub.repos[REPO]
        if "/commit/" in request.path and "theirs" not in repo.tree():
            repo.commit("main", {**repo.tree(), "theirs": Blob(b"1")}, "theirs")

    hub.before = commit_first
    with pytest.raises(UserError, match=r"412.*Somebody else committed meanwhile"):
        publish(hub, run)
    assert hub.repos[REPO].messages[-1] == "theirs"
    assert publish(hub, run)[0] == 0
    assert "theirs" in hub.repos[REPO].tree()


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        pytest.param(READ, "may only read", id="read-only-token"),
        pytest.param("hf_" + "x" * 30, "wrong or has expired", id="unknown-token"),
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


def test_an_organisation_of_the_user_is_fine(hub, run):
    assert publish(hub, run, repo="alice-lab/gsm8k-1b")[0] == 0


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


def test_public_is_public_where_asked_for(hub, run):
    assert publish(hub, run, "--public")[0] == 0
    assert hub.repos[REPO].private is False


def test_a_hub_that_ignores_private_gets_no_file(hub, run):
    hub.ignores_private = True
    with pytest.raises(UserError, match="was to be private, but the Hub says it is not"):
        publish(hub, run)
    assert hub.writes() == ["POST /api/repos/create"]


def test_a_full_hub(hub, run):
    hub.room_bytes = 1000
    with pytest.raises(UserError, match=r"507 .*has no room"):
        publish(hub, run)
    assert hub.repos[REPO].messages == []


def test_a_full_disk_here_is_found_before_the_first_byte(hub, run, monkeypatch):
    from xmlgrpo_exporter import preflight

    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"0 MiB free; comparing the upload needs 64 MiB"):
        publish(hub, run)
    assert hub.writes() == []


def test_large_contents_go_up_in_parts(hub, run):
    hub.part_bytes = 1000
    run_folders.write_merged(run / "merged", n_bytes=4500)
    assert publish(hub, run)[0] == 0
    parts = [write for write in puts(hub) if re.search(r"/[0-9a-f]{64}/\d$", write)]
    assert len(parts) == 5
    sent = hub.repos[REPO].tree()["model.safetensors"].content
    assert sent == (run / "merged/model.safetensors").read_bytes()


@pytest.mark.parametrize("target", ["README.md", "model.safetensors", "results/ladder.json"])
def test_what_arrives_damaged_is_not_tagged(hub, run, target):
    def damage(request):
        repo = hub.repos.get(REPO)
        if repo is not None and target in repo.tree():
            blob = repo.tree()[target]
            turned = bytes([blob.content[0] ^ 1]) + blob.content[1:]
            repo.tree()[target] = Blob(turned, blob.lfs)

    hub.before = damage
    with pytest.raises(
        UserError, match=rf"does not hold what was sent: {re.escape(target)} differ"
    ):
        publish(hub, run)
    assert hub.repos[REPO].tags == {}


def test_a_revision_is_a_branch_of_its_own(hub, run):
    publish(hub, run)
    main = dict(hub.repos[REPO].tree())
    (run / "adapter/adapter_model.safetensors").write_bytes(run_folders.safetensors(301))
    code, printed = publish(hub, run, "--revision", "steps/40")
    repo = hub.repos[REPO]
    assert code == 0
    assert repo.tree() == main
    assert len(repo.tree("steps/40")["adapter/adapter_model.safetensors"].content) == 378
    assert 'revision="steps/40"' in repo.tree("steps/40")["README.md"].content.decode()
    assert f"{hub.url}/{REPO}/tree/steps/40" in printed


def test_old_weights_do_not_stay_beside_a_card_that_does_not_know_them(hub, run):
    publish(hub, run)
    (run / "gguf/gsm8k-1b-q4_k_m.gguf").unlink()
    run_folders.write_gates(run)
    with pytest.raises(UserError, match=r"already holds gsm8k-1b-q4_k_m\.gguf"):
        publish(hub, run)
    assert publish(hub, run, "--prune")[0] == 0
    assert "gsm8k-1b-q4_k_m.gguf" not in hub.repos[REPO].tree()


def test_several_problems_are_told_at_once(hub, run):
    run_folders.write_gates(run, check=False, ladder=False)
    with pytest.raises(UserError, match=r"(?s)2 reasons:.*check did not pass.*ladder did not pass"):
        publish(hub, run)
    assert hub.writes() == []

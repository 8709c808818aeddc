"""A hub that fails: ridden out where it passes, told in words where it lasts, then continued."""

import hashlib
import re
import signal
import subprocess
from types import SimpleNamespace

import pytest

import strikes
from hub_server import Blob, Failure
from xmlgrpo_exporter.publish import time_limits
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.screen import progress

from .. import run_folders
from ..publishing import MARKS, REPO, WRITE, cli, command, publish, puts, user_environment

pytestmark = MARKS


FOREVER = 10_000


@pytest.fixture
def impatient(hub, monkeypatch):
    """The Hub is waited for as in life, by a clock on which only a hanging answer takes time."""

    def now_s():
        hanging = [failure for failure in hub.failures if failure.how in ("hang", "drip")]
        return 100.0 + sum(1000.0 * (FOREVER - failure.times) for failure in hanging)

    monkeypatch.setattr(time_limits, "time", SimpleNamespace(monotonic=now_s))
    monkeypatch.setattr(time_limits, "LOOK_EVERY_S", 0.05)


@pytest.mark.parametrize(
    ("failure", "commits"),
    [
        pytest.param(Failure("GET /api/whoami", 503), 1, id="whoami-503"),
        pytest.param(Failure("POST /api/repos/create", 500), 1, id="create-500"),
        pytest.param(Failure("POST /api/repos/create", 500, done=True), 1, id="create-answer-lost"),
        pytest.param(Failure("POST .*/preupload/", 503, times=4), 1, id="preupload-503-storm"),
        pytest.param(Failure("PUT /lfs/", 500, times=5), 1, id="content-500-storm"),
        pytest.param(Failure("PUT /lfs/", None, times=3), 1, id="content-hangs-up"),
        pytest.param(Failure("POST .*/commit/", 503), 1, id="commit-503"),
        pytest.param(Failure("POST .*/commit/", None), 1, id="commit-hangs-up"),
        pytest.param(
            Failure("POST .*/commit/", None, done=True), 1, id="commit-hangs-up-when-done"
        ),
        pytest.param(Failure("POST .*/commit/", 500, done=True), 1, id="commit-answer-lost"),
        pytest.param(Failure("POST .*/tag/", 502), 1, id="tag-502"),
        pytest.param(Failure("GET .*/tree/", 503), 1, id="comparing-503"),
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


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        pytest.param(Failure("whoami", 200, how="hang"), "did not answer in time", id="hang"),
        pytest.param(Failure("whoami", 200, how="drip"), "did not answer in time", id="drip"),
        pytest.param(Failure("PUT /lfs/", 200, how="hang"), "What was uploaded is kept", id="put"),
        pytest.param(Failure("commit/", 200, how="drip"), "did not answer in time", id="commit"),
        pytest.param(Failure("whoami", 200, how="cut"), "broke off, twice", id="cut-short"),
        pytest.param(Failure("whoami", 200, how="reset"), "broke off, twice", id="reset"),
        pytest.param(Failure("whoami", 200, page=b"<html>"), "in another way than a", id="page"),
        pytest.param(Failure("whoami", 200, page=b"[]"), "JSON of another form", id="other-json"),
        pytest.param(Failure("whoami", 200, page=b"{}"), "JSON of another form", id="no-account"),
        pytest.param(
            Failure("whoami", 429, headers={"Retry-After": "86400"}),
            "answered 429 and asks to wait 86,400 s",
            id="a-day",
        ),
        pytest.param(
            Failure("PUT /lfs/", 429, headers={"Retry-After": "3000"}),
            "answered 429 and asks to wait 3,000 s",
            id="contents-in-an-hour",
        ),
        pytest.param(
            Failure("PUT /lfs/", 503, headers={"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}),
            "answered 503 and asks to wait",
            id="until-a-date",
        ),
        pytest.param(
            Failure("commit/", 429, headers={"ratelimit": '"api";r=0;t=3000'}),
            "answered 429 and asks to wait 3,000 s",
            id="rate-limit",
        ),
        pytest.param(Failure("commit/", 429), "answered 429, twice", id="429"),
        pytest.param(Failure("whoami", 401), "token is wrong or has expired", id="401"),
        pytest.param(Failure("commit/", 403), "needs write permission", id="403"),
        pytest.param(
            Failure("commit/", 403, message="Private repository storage limit reached"),
            "has no room for this",
            id="quota",
        ),
        pytest.param(
            Failure("commit/", 403, error_code="GatedRepo"), "The repository is gated", id="gated"
        ),
        pytest.param(Failure("commit/", 404), "no such repository or branch", id="404"),
        pytest.param(Failure("commit/", 409), "Somebody else changed it meanwhile", id="409"),
        pytest.param(Failure("commit/", 412), "Somebody else committed meanwhile", id="412"),
        pytest.param(Failure("commit/", 413), "more than the Hub takes at once", id="413"),
        pytest.param(Failure("create$", 409), "There is no such repository", id="not-created"),
        pytest.param(Failure("/tag/", 409), "looking for the tag xmlgrpo-", id="tag-that-is-none"),
        pytest.param(Failure("/tree/", 200, page=b"[1]"), "does not hold|another", id="no-tree"),
    ],
)
@pytest.mark.timeout(60)  # where nobody looks at the clock, an answer is waited for much longer
def test_a_lasting_fault_ends_in_a_true_sentence(hub, run, impatient, failure, said):
    failure.times = FOREVER
    hub.failures.append(failure)
    with pytest.raises(UserError, match=said):
        publish(hub, run)
    assert not hub.repos.get(REPO) or not hub.repos[REPO].tags
    failure.times = 0
    assert publish(hub, run)[0] == 0, "the next push goes on"


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure("commit/", 200, how="hang", done=True), id="hangs"),
        pytest.param(Failure("commit/", 200, page=b"{}", done=True), id="other-json"),
        pytest.param(Failure("commit/", 502, done=True), id="502"),
        pytest.param(Failure("commit/", None, done=True), id="hangs-up"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--prune",)])
def test_a_commit_whose_answer_is_lost_is_found(hub, run, impatient, failure, options):
    if options:
        assert publish(hub, run)[0] == 0
        (run / "gguf/gsm8k-1b-q4_k_m.gguf").unlink()
        run_folders.write_gates(run)
    failure.times = FOREVER
    hub.failures.append(failure)
    before = len(hub.repos[REPO].messages) if options else 0
    code, printed = publish(hub, run, *options)
    assert (code, len(hub.repos[REPO].messages)) == (0, before + 1)
    assert "published, compared and tagged" in printed


def test_a_repository_made_public_meanwhile_is_not_called_private(hub, run):
    def open_it(request):
        if "/tag/" in request.path:
            hub.repos[REPO].private = False

    hub.before = open_it
    with pytest.raises(UserError, match="it became public during the upload"):
        publish(hub, run)


def test_nothing_is_silent_for_ten_seconds(hub, run, monkeypatch):
    now_s, note = 100.0, progress.Stage.note_output

    def spoken(stage):
        nonlocal now_s
        now_s += 1000.0
        note(stage)

    monkeypatch.setattr(time_limits, "time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(progress.Stage, "note_output", spoken)  # the Hub is waited for until then
    for name in ("FIRST_LINE_S", "NEXT_LINES_S"):
        assert getattr(progress, name) < 10
        monkeypatch.setattr(progress, name, 0.0)
    hub.failures.append(Failure("/branch|/tree/|whoami", 200, how="hang"))
    _, printed = publish(hub, run)
    assert re.search(r"looking at the repository  \d:\d\d:\d\d", printed)


@pytest.mark.parametrize(
    ("pattern", "nth"),
    [
        pytest.param("POST /api/repos/create", 1, id="creating"),
        pytest.param("PUT /lfs/", 3, id="third-content"),
        pytest.param("POST .*/commit/", 1, id="committing"),
        pytest.param("GET .*/tree/", 1, id="comparing"),
        pytest.param("POST .*/tag/", 1, id="tagging"),
    ],
)
def test_a_killed_push_is_continued_and_nothing_is_sent_twice(hub, run, pattern, nth):
    process = subprocess.Popen(
        command("--run", str(run), "--repo", REPO),
        env=user_environment(hub.url, run.parent / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def kill(request):
        asked = [f"{request.method} {request.path}" for request in hub.requests]
        if sum(1 for line in asked if re.match(pattern, line)) == nth and process.poll() is None:
            process.kill()
            process.wait()

    hub.before = kill
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    kept, before = set(hub.lfs), len(puts(hub))
    assert publish(hub, run)[0] == 0
    sent = {put.rpartition("/")[2] for put in puts(hub)[before:]}
    assert sent.isdisjoint(kept)
    assert len(hub.repos[REPO].messages) == 1
    assert len(hub.repos[REPO].tags) == 1


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        pytest.param("GET /api/whoami", b"nothing was uploaded", id="before"),
        pytest.param("PUT /lfs/", b"what was uploaded is kept there; the same", id="uploading"),
        pytest.param("GET .*/tree/", b"everything is there, and not yet compared", id="after"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_what_is_kept_there(hub, run, pattern, said, number):
    process = subprocess.Popen(
        command("--run", str(run), "--repo", REPO),
        env=user_environment(hub.url, run.parent / "home"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    def interrupt(request):
        if re.match(pattern, f"{request.method} {request.path}") and process.poll() is None:
            process.send_signal(number)
            process.wait(timeout=60)  # no answer: it must not wait for one

    hub.before = interrupt
    _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert told.count(b"\n") == 1
    assert said in told
    hub.before = lambda request: None
    assert publish(hub, run)[0] == 0


def test_a_run_folder_that_cannot_be_written_is_told_before_the_first_byte(hub, run):
    (run / "hub").write_text("a file where a folder is to be")
    with pytest.raises(UserError, match=r"gsm8k-1b/hub, where the card .* cannot be written"):
        publish(hub, run)
    assert hub.writes() == []


def test_somebody_else_commits_meanwhile(hub, run):
    publish(hub, run)
    (run / "adapter/adapter_model.safetensors").write_bytes(run_folders.safetensors(301))
    run_folders.write_gates(run)

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


@pytest.mark.parametrize("target", ["README.md", "model.safetensors", "results/ladder.json"])
def test_what_arrives_damaged_is_not_tagged(hub, run, target):
    def damage(request):
        repo = hub.repos.get(REPO)
        if repo is not None and target in repo.tree():
            blob = repo.tree()[target]
            turned = bytes([blob.content[0] ^ 1]) + blob.content[1:]
            repo.tree()[target] = Blob(turned, blob.lfs and hashlib.sha256(turned).hexdigest())

    hub.before = damage
    with pytest.raises(
        UserError, match=rf"does not hold what was sent: {re.escape(target)} differ"
    ):
        publish(hub, run)
    assert hub.repos[REPO].tags == {}


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://hub.example", "https://"])
def test_an_endpoint_that_is_no_address(tmp_path, endpoint):
    result = cli(endpoint, "--run", str(tmp_path), "--repo", "alice/m", home=tmp_path)
    assert result.returncode == 2
    assert b"HF_ENDPOINT: expected https://HOST" in result.stderr


def test_a_hub_that_is_not_there(tmp_path):
    run = run_folders.write_full_run(tmp_path / "run")
    result = cli("http://127.0.0.1:9", "--run", str(run), "--repo", "alice/m", home=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1
    assert b"could not be reached or broke off, twice" in result.stderr
    assert b"Look at the network, then run the same command again" in result.stderr
    assert b"uploaded" not in result.stderr


@pytest.mark.parametrize(
    ("token", "said"),
    [
        pytest.param("", b"the Hub was not asked: no Hugging Face token", id="no-token"),
        pytest.param("hf_" + "x" * 30, b"the Hub was not asked: asking whose", id="no-network"),
    ],
)
def test_a_dry_run_needs_no_hub(tmp_path, token, said):
    run = run_folders.write_full_run(tmp_path / "run")
    words = ("--run", str(run), "--repo", "alice/m", "--dry-run")
    result = cli("http://127.0.0.1:9", *words, home=tmp_path, token=token)
    assert result.returncode == 0
    assert said in result.stdout
    assert b"dry run: nothing was sent" in result.stdout
    assert result.stderr == b""


def test_sigterm_after_the_upload_says_that_it_is_there(hub, run, tmp_path):
    """The record is written last, when the Hub has everything already."""
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    ended = strikes.run(
        ("xmlgrpo-export", "push", "--run", str(run), "--repo", REPO),
        run,
        strikes.Strike("stop", 1, r"^open .*pushed\.json"),
        scratch=tmp_path / "scratch",
        environment={"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITE, **home},
    )
    assert ended.code == 128 + signal.SIGTERM
    assert "terminated: everything is there and tagged; the same command writes" in ended.errors
    assert len(hub.repos[REPO].tags) == 1
    code, screen = publish(hub, run)
    assert (code, len(hub.repos[REPO].messages)) == (0, 1)
    assert "was up to date, compared and tagged" in screen

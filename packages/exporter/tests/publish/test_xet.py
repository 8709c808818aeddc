"""Publishing by Xet: the client's own hf_xet, its store in a folder."""

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hub_server import Failure, Hub, serve

from .. import run_folders
from ..publishing import MARKS, REPO, WRITE, cli, command, user_environment

pytestmark = MARKS

XET = {
    "HF_HUB_DISABLE_XET": "0",  # said by the user: this hub is not huggingface.co, and has it
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
}
WEIGHTS_BYTES = 300_000  # several of Xet's chunks, which are 64 kB on average


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def hub(store):
    with serve({WRITE: ("alice", "write")}) as hub:
        hub.cas_url = f"local://{store}"
        yield hub


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "run")
    run_folders.write_merged(run / "merged", n_bytes=WEIGHTS_BYTES)
    run_folders.write_gates(run)
    return run


def push(hub: Hub, run: Path) -> subprocess.CompletedProcess[bytes]:
    words = ("--run", str(run), "--repo", REPO)
    return cli(hub.url, *words, home=run.parent / "home", **XET)


def contents(store: Path) -> list[str]:
    """The blocks of content in the store."""
    blocks = [path.name for path in store.glob("xet/xorbs/xorbs/*") if path.suffix != ".tagset"]
    assert blocks, "nothing arrived"
    return sorted(blocks)


def test_contents_go_and_come_by_xet(hub, run, store, tmp_path):
    done = push(hub, run)
    assert done.returncode == 0, done.stderr.decode()
    assert not any(write.startswith("PUT") for write in hub.writes())
    tree = hub.repos[REPO].tree()
    weights = (run / "merged/model.safetensors").read_bytes()
    assert tree["model.safetensors"].xet.sha256 == hashlib.sha256(weights).hexdigest()
    assert tree["model.safetensors"].size == len(weights)
    assert tree["README.md"].xet is None  # small text is in the commit itself
    assert list(hub.repos[REPO].tags.values()) == [hub.repos[REPO].branches["main"]]

    downloaded = tmp_path / "downloaded"
    code = (
        "import sys, huggingface_hub as hub\n"
        "hub.snapshot_download(sys.argv[1], local_dir='.', max_workers=1)"
    )
    downloaded.mkdir()
    for _ in range(3):  # the store in a folder is hf_xet's own stand-in, and has failed once
        done = subprocess.run(
            [sys.executable, "-c", code, REPO],
            env=user_environment(hub.url, tmp_path / "another-home", **XET),
            cwd=downloaded,
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr.decode()
    assert (downloaded / "model.safetensors").read_bytes() == weights
    for path in (run / "gguf").glob("*.gguf"):
        assert (downloaded / path.name).read_bytes() == path.read_bytes()


def test_an_unchanged_push_stores_nothing_again(hub, run, store):
    push(hub, run)
    before = contents(store)
    done = push(hub, run)
    assert b"was up to date" in done.stdout
    assert (contents(store), len(hub.repos[REPO].messages)) == (before, 1)


def test_a_push_killed_before_its_commit_is_continued(hub, run, store):
    process = subprocess.Popen(
        command("--run", str(run), "--repo", REPO),
        env=user_environment(hub.url, run.parent / "home", **XET),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def kill_at_the_commit(request):
        if "/commit/" in request.path and process.poll() is None:
            process.kill()
            process.wait()

    hub.before = kill_at_the_commit
    process.communicate(timeout=120)
    # what the server had read it carries out, in a thread of its own: the killed client never
    # learns of it, and the next one finds nothing left to commit
    arrived = contents(store)
    assert push(hub, run).returncode == 0
    assert contents(store) == arrived
    assert len(hub.repos[REPO].messages) == 1


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure("GET .*/xet-write-token/", 503), id="write-token-503"),
        pytest.param(Failure("GET .*/xet-write-token/", None), id="write-token-hangs-up"),
    ],
)
def test_a_passing_failure_is_ridden_out(hub, run, failure):
    hub.failures.append(failure)
    done = push(hub, run)
    assert done.returncode == 0, done.stderr.decode()
    assert failure.times == 0, "the failure never happened"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(401, b"refused with 401", id="unauthorized"),
        pytest.param(404, b"A hub without Xet, or a network", id="no-xet-there"),
    ],
)
def test_a_hub_that_gives_no_access_to_a_store(hub, run, status, words):
    hub.failures.append(Failure("GET .*/xet-write-token/", status, times=1000))
    done = push(hub, run)
    assert done.returncode == 2
    assert words in done.stderr
    assert b"HF_HUB_DISABLE_XET=1" in done.stderr
    assert hub.repos[REPO].messages == []


def test_the_store_never_sees_the_hubs_token(hub, run):
    """A store behind an address: it refuses, and what it was sent is looked at."""
    hub.cas_url = f"{hub.url}/cas"
    hub.failures.append(Failure("/cas/", 403, times=1000))
    done = push(hub, run)
    assert b"refused with 403" in done.stderr
    seen = Counter(request.authorization for request in hub.requests if "/cas/" in request.path)
    assert set(seen) == {"Bearer xet-access"}

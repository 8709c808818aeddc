"""What must not leave the machine: tokens, other secrets, paths of this machine."""

import pytest

from hub_server import RefusalError, serve
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.upload_files import artefact_file, secrets_at_hand
from xmlgrpo_rewards.errors import UserError

from .. import run_folders
from ..publishing import MARKS, WRITE, cli

pytestmark = MARKS


@pytest.mark.parametrize("value", [WRITE, "wandb-key-0123456789abcdef"])
def test_a_file_with_a_secret_is_refused_and_the_secret_not_repeated(tmp_path, monkeypatch, value):
    monkeypatch.setenv("WANDB_API_KEY", "wandb-key-0123456789abcdef")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(f'{{"note": "{value}"}}')
    with pytest.raises(UserError, match=r"tokenizer_config.json holds a token") as refusal:
        artefact_file(
            path.name, OwnFile(tmp_path, path), None, secrets_at_hand(None), lambda count: None
        )
    assert value not in str(refusal.value)


def test_the_token_is_found_nowhere_after_a_push(tmp_path):
    """Every byte that the command printed, wrote or sent, but for the header that needs it."""
    run = run_folders.write_full_run(tmp_path / "run")
    with serve({WRITE: ("alice", "write")}) as hub:
        result = cli(hub.url, "--run", str(run), "--repo", "alice/m", home=tmp_path / "home")
        assert result.returncode == 0, result.stderr
        assert any(request.authorization == f"Bearer {WRITE}" for request in hub.requests)
        sent = [request.path.encode() + request.body for request in hub.requests]
        kept = [blob.content for blob in hub.repos["alice/m"].tree().values()]
        to_the_store = [r for r in hub.requests if r.path.startswith("/lfs/")]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = [*sent, *kept, *written, result.stdout, result.stderr]
    assert not any(WRITE.encode() in content for content in everything)
    assert to_the_store
    assert all(request.authorization is None for request in to_the_store)


def test_an_answer_that_echoes_the_token_is_not_repeated(tmp_path):
    run = run_folders.write_full_run(tmp_path / "run")

    def echo(request):
        if "/commit/" in request.path:
            raise RefusalError(400, f"bad header {request.authorization}")

    with serve({WRITE: ("alice", "write")}) as hub:
        hub.before = echo
        result = cli(hub.url, "--run", str(run), "--repo", "alice/m", home=tmp_path / "home")
    assert result.returncode == 2
    assert b"bad header Bearer hf_..." in result.stderr
    assert WRITE.encode() not in result.stderr + result.stdout


def test_a_token_as_argument_is_refused_before_anything_is_asked(tmp_path):
    with serve({WRITE: ("alice", "write")}) as hub:
        result = cli(hub.url, "--token", WRITE, "--run", "x", "--repo", "a/b", home=tmp_path)
        assert hub.requests == []
    assert result.returncode == 2
    assert b"holds a Hugging Face token" in result.stderr
    assert WRITE.encode() not in result.stderr + result.stdout

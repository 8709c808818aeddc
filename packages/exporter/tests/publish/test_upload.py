"""What arrives when a run is published, with the real client against a hub on 127.0.0.1."""

import json
import re
from collections import Counter
from typing import Any

import pytest
from huggingface_hub import lfs

from hub_server import Failure, Repo
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run import digests

from .. import run_folders
from ..publishing import MARKS, REPO, publish, puts

pytestmark = MARKS


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
        "results/curves.png",
        "results/gguf-check.json",
        "results/ladder.json",
        "results/manifest.json",
        "results/merge.json",
        "tokenizer.json",
    ]
    assert not any(
        b"not for the public" in blob.content for blob in hub.repos[REPO].tree().values()
    )


def test_each_file_is_hashed_once(hub, run, monkeypatch):
    """Not by us a second time for what was measured, and not by the client once more."""
    hashed = Counter[tuple[Any, ...]]()

    class Once(dict[Any, Any]):
        def setdefault(self, key, value=None, /):
            hashed[key] += 1
            return super().setdefault(key, value)

    monkeypatch.setattr(digests, "_known", Once())
    monkeypatch.setattr(lfs, "sha_fileobj", lambda *_: pytest.fail("the client hashes, too"))
    assert publish(hub, run)[0] == 0
    assert max(hashed.values()) == 1
    sizes = {size for _, _, size, _ in hashed}
    assert (run / "merged/model.safetensors").stat().st_size in sizes


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
    run_folders.write_gates(run)
    publish(hub, run)
    assert len(puts(hub)) == before + 1
    assert len(hub.repos[REPO].tags) == 2


def test_a_dry_run_sends_nothing_and_keeps_the_card(hub, run):
    before = {*run.rglob("*")}
    code, printed = publish(hub, run, "--dry-run")
    assert code == 0
    assert hub.writes() == []
    card = run / "hub/dry-run.md"
    assert {*run.rglob("*")} - before == {card.parent, card}
    assert "| right, in the format | [" in card.read_text()
    for expected in (
        r"\n# `gsm8k-1b`\n",
        r"\n\| right, in the format \| 7\.8% \(.*\) of 400 \|\n",
        f"the whole card: {card}",
        r"977 bytes  weights +[0-9a-f]{64}  model\.safetensors\n",
        r"stays here: .*training_args\.bin",
        f"to {hub.url}/{REPO} on main, private",
    ):
        assert re.search(expected, printed), expected


def test_a_dry_run_says_what_would_be_refused(hub, run):
    run_folders.write_gates(run, check=False)
    hub.repos[REPO] = Repo(private=False)
    code, printed = publish(hub, run, "--dry-run")
    assert code == 2
    assert "would be refused: the export's check did not pass" in printed
    assert f"would be refused: {REPO} exists and is public" in printed


def test_an_organisation_of_the_user_is_fine(hub, run):
    assert publish(hub, run, repo="alice-lab/gsm8k-1b")[0] == 0


def test_public_is_public_where_asked_for(hub, run):
    assert publish(hub, run, "--public")[0] == 0
    assert hub.repos[REPO].private is False


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Failure("never", 500, times=0), id="nothing-fails"),
        pytest.param(Failure(r"PUT /lfs/\w+/3", 503, times=2), id="a-part-refused-twice"),
        pytest.param(Failure(r"PUT /lfs/\w+/5", None), id="the-last-part-cut-off"),
        pytest.param(Failure(r"POST /lfs/\w+$", 500), id="putting-together-refused-once"),
        pytest.param(Failure("POST /verify/", 503), id="verifying-refused-once"),
    ],
)
def test_large_contents_go_up_in_parts(hub, run, failure):
    hub.part_bytes = 1000
    hub.failures.append(failure)
    run_folders.write_merged(run / "merged", n_bytes=4500)
    run_folders.write_gates(run)
    assert publish(hub, run)[0] == 0
    assert failure.times == 0, "the failure never happened"
    parts = {put.rpartition("/")[2] for put in puts(hub) if re.search(r"/[0-9a-f]{64}/\d$", put)}
    assert parts == set("12345")
    sent = hub.repos[REPO].tree()["model.safetensors"].content
    assert sent == (run / "merged/model.safetensors").read_bytes()


def test_a_revision_is_a_branch_of_its_own(hub, run):
    publish(hub, run)
    main = dict(hub.repos[REPO].tree())
    (run / "adapter/adapter_model.safetensors").write_bytes(run_folders.safetensors(301))
    run_folders.write_gates(run)
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


def test_what_transformers_notes_of_this_machine_stays_here(hub, run):
    settings = {"bos_token": "<bos>", "is_local": True, "name_or_path": "/home/ann/base"}
    for folder in ("adapter", "merged"):
        run_folders.write_json(run / folder / "tokenizer_config.json", settings)
    run_folders.write_gates(run)
    publish(hub, run)
    tree = hub.repos[REPO].tree()
    for path in ("adapter/tokenizer_config.json", "tokenizer_config.json"):
        assert json.loads(tree[path].content) == {"bos_token": "<bos>"}

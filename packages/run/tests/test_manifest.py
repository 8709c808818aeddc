"""A manifest is read back as it was written, and finds what has moved together with the run."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.files import SEAL, sealed, write_text
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.manifest import (
    MANIFEST_FORMAT,
    Base,
    Data,
    HeldOut,
    Manifest,
    Place,
    files_of_base,
    files_of_run,
    loaded_commit,
    read_manifest,
    require_as_trained,
    write_manifest,
)

HUB = Base(
    "google/gemma-3-1b-it", "dcc83ea", None, "bfloat16", False, "Gemma3ForCausalLM", False, {}
)


def manifest(base: Base = HUB, place: Place | None = None) -> Manifest:
    return Manifest(
        run="a",
        finished="2026-11-30T12:00:00Z",
        task="gsm8k",
        format_version=2,
        base=base,
        adapter="ab" * 32,
        backend="plain",
        rollout="graph",
        seed=0,
        steps=60,
        best_step=50,
        seconds=12,
        max_prompt_tokens=256,
        max_completion_tokens=512,
        max_reply_tokens=512,
        data=Data("json", "train.jsonl", None, place, "cd" * 32, 9, 3, 4, 0, 0),
        rewards={"correctness_reward_func": 1.0},
        config={"seed": 0},
        config_sha256="ef" * 32,
        commit=None,
        dirty=False,
        versions={"torch": "2.13.0"},
        hardware={"device": "cpu", "cores": 2},
        holdout=HeldOut(4, {"mean_tokens": 3.5}, {"mean_tokens": 4.5}),
        files={},
    )


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    written = manifest(place=Place.of(tmp_path / "rows.jsonl", run))
    write_manifest(run, written)
    assert read_manifest(run) == written
    assert (written.base.hub_id, written.base.folder(run)) == (HUB.name, None)
    assert written.base.source(run) == HUB.name


def with_value(*keys: str, value: object) -> str:
    content = inner = manifest().as_json()
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(sealed(content))


def without(key: str) -> str:
    content = manifest().as_json()
    del content[key]
    return json.dumps(sealed(content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "has no manifest.json, so its training has not finished", id="missing"),
        pytest.param("{", "is not JSON", id="cut"),
        pytest.param("[]", "expected a JSON object, got list", id="list"),
        pytest.param("{}", f"expected format {MANIFEST_FORMAT}, got None", id="no-format"),
        pytest.param('{"format": 1}', f"expected format {MANIFEST_FORMAT}, got 1", id="older"),
        pytest.param(json.dumps(manifest().as_json() | {SEAL: "ab"}), "was changed", id="edited"),
        pytest.param(without("base"), "base is missing", id="no-base"),
        pytest.param(with_value("base", value=3), "base: expected a JSON object, got 3", id="base"),
        pytest.param(
            with_value("base", "name", value=3), r"base\.name: expected str, got 3", id="name"
        ),
        pytest.param(with_value("seed", value=True), "seed: expected int, got True", id="bool"),
        pytest.param(with_value("rewards", value=[1]), "rewards: expected dict", id="rewards"),
        pytest.param(
            with_value("holdout", "after", value=None), r"holdout\.after: expected", id="null"
        ),
    ],
)
def test_a_manifest_that_does_not_read_is_a_user_error(
    tmp_path: Path, content: str | None, words: str
) -> None:
    run = RunFolder(tmp_path)
    write_text(run.config, "")
    if content is not None:
        run.manifest.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_manifest(run)


@pytest.mark.parametrize(
    ("trained", "moved_to"),
    [
        pytest.param(("project/outputs/a", "project/outputs/base/tiny"), "elsewhere", id="both"),
        pytest.param(("project/outputs/a", "project/models/tiny"), "elsewhere", id="whole-project"),
        pytest.param(("project/outputs/a", "project/outputs/a/tiny"), "elsewhere", id="in-it"),
        pytest.param(("project/outputs/a", "models/tiny"), "elsewhere", id="the-run-alone"),
        pytest.param(("project/outputs/a", "models/tiny"), "project", id="nothing"),
    ],
)
def test_a_base_is_found_where_it_lies_now(
    tmp_path: Path, trained: tuple[str, str], moved_to: str
) -> None:
    run, base = RunFolder(tmp_path / trained[0]), tmp_path / trained[1]
    base.mkdir(parents=True)
    place = Place.of(base, run)
    folder = dataclasses.replace(HUB, name=str(base), revision=None, place=place)
    write_manifest(run, manifest(folder))
    shutil.move(tmp_path / "project", tmp_path / moved_to)
    run = RunFolder(Path(str(run.root).replace("/project/", f"/{moved_to}/")))
    if moved_to == "project":
        run = RunFolder(tmp_path / "project" / "outputs" / "a")
    found = read_manifest(run).base
    assert found.hub_id is None
    here = found.folder(run)
    assert here is not None
    assert here.is_dir()
    assert here.name == "tiny"
    assert found.source(run) == str(here)


def test_a_base_that_is_gone_names_where_it_was_and_where_it_may_be(tmp_path: Path) -> None:
    run, base = RunFolder(tmp_path / "a"), tmp_path / "tiny"
    base.mkdir()
    gone = dataclasses.replace(HUB, name="tiny", place=Place.of(base, run))
    base.rmdir()
    assert gone.folder(run) is None
    with pytest.raises(UserError, match=rf"{base} any more; .* {run.root / 'tiny'}"):
        gone.source(run)


def test_what_training_left_is_asked_for_as_it_was_left(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    completions = run.completions_of(7)
    for path in (
        *(run.holdout_items, run.config, completions),
        run.adapter / "adapter_model.safetensors",
    ):
        write_text(path, "1")
    left = dataclasses.replace(
        manifest(), files=files_of_run(run), adapter=model_digest(run.adapter) or ""
    )
    for path in (run.holdout_items, completions, run.adapter):
        assert require_as_trained(run, left, path) == path
    for path in (run.holdout_items, completions, run.adapter / "adapter_model.safetensors"):
        write_text(path, "2")
        with pytest.raises(UserError, match=r"damaged or was changed.* restore it from a copy"):
            require_as_trained(run, left, run.adapter if "adapter" in str(path) else path)
    run.config.unlink()
    with pytest.raises(UserError, match=r"config\.yaml is missing"):
        require_as_trained(run, left, run.config)
    write_text(run.resolved, "{}")
    with pytest.raises(UserError, match=r"resolved\.json was not there after training"):
        require_as_trained(run, left, run.resolved)


def test_a_base_with_other_weights_is_refused(tmp_path: Path) -> None:
    run, base = RunFolder(tmp_path / "a"), tmp_path / "tiny"
    write_text(base / "model.safetensors", "1")
    there = dataclasses.replace(
        HUB, name="tiny", place=Place.of(base, run), files=files_of_base(base)
    )
    assert there.source(run) == str(base)
    write_text(base / "model.safetensors", "2")
    with pytest.raises(UserError, match=r"not the one that was trained from: .*model\.safetens"):
        there.source(run)


def test_a_place_by_way_of_a_folder_that_goes_and_of_a_link_that_moves(tmp_path: Path) -> None:
    (tmp_path / "disk" / "outputs" / "run").mkdir(parents=True)
    (tmp_path / "disk" / "models" / "x").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "outputs").symlink_to(tmp_path / "disk" / "outputs")
    run = RunFolder(tmp_path / "work" / "outputs" / "run")
    place = Place.of(tmp_path / "work" / ".." / "disk" / "models" / "x", run)
    (tmp_path / "work" / "outputs").unlink()
    (tmp_path / "work").rmdir()
    there = place.now(RunFolder(tmp_path / "disk" / "outputs" / "run"))
    assert there is not None
    (tmp_path / "disk").rename(tmp_path / "moved")
    there = place.now(RunFolder(tmp_path / "moved" / "outputs" / "run"))
    assert there is not None
    assert there.samefile(tmp_path / "moved" / "models" / "x")


def test_the_commit_of_a_model_of_the_hub_is_the_one_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commits = {"main": "1" * 40, "v1": "2" * 40}
    for branch, commit in commits.items():
        write_text(tmp_path / "models--org--name" / "refs" / branch, commit)
        write_text(tmp_path / "models--org--name/snapshots" / commit / "config.json", "{}")
    assert loaded_commit("org/name", None) == "1" * 40
    assert loaded_commit("org/name", "v1") == "2" * 40
    assert loaded_commit("org/name", "2" * 40) == "2" * 40
    assert loaded_commit("org/name", "never-loaded") is None
    assert loaded_commit(str(tmp_path), None) is None
    assert loaded_commit("no id at all", None) is None

"""What may leave the machine: the allow-list, the choice of artefacts, whole weights."""

from pathlib import Path

import pytest

from xmlgrpo_exporter.publish.allowed_files import choose_artefacts, find_artefacts, parse_what
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.release import target_of
from xmlgrpo_exporter.publish.upload_files import artefact_file
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.folder import RunFolder

from .. import run_folders


def find(folder: Path, base: Path | None = None):
    return find_artefacts(RunFolder(folder), base)


def choose(folder: Path, what, base: Path | None = None):
    there = find(folder, base)
    return choose_artefacts(RunFolder(folder), there, what, with_base=base is not None)


@pytest.mark.parametrize(
    ("artefact", "name", "goes"),
    [
        ("adapter", "adapter_model.safetensors", True),
        ("adapter", "chat_template.jinja", True),
        ("adapter", "adapter_model.bin", False),
        ("adapter", "training_args.bin", False),
        ("adapter", "optimizer.pt", False),
        ("adapter", "rng_state_0.pth", False),
        ("adapter", "README.md", False),
        ("adapter", ".env", False),
        ("merged", "model-00001-of-00002.safetensors", True),
        ("merged", "model.safetensors.index.json", True),
        ("merged", "pytorch_model.bin", False),
        ("merged", "modeling_custom.py", False),
        ("merged", "Config.json", False),
        ("gguf", "m-q8_0.gguf", True),
        ("gguf", "m-q8_0.gguf.partial", False),
        ("gguf", ".m-q8_0.gguf.12.partial", False),
        ("gguf", "m-q8_0.Modelfile", True),
        ("gguf", "m-q8_0.gguf.rejected", False),
        ("gguf", "check.json", False),
        ("gguf", "imatrix.dat", False),
        ("gguf", "quantize.log", False),
    ],
)
def test_the_allow_list(tmp_path, artefact, name, goes):
    mark = {"adapter": "adapter_config.json", "merged": "config.json", "gguf": "x.gguf"}[artefact]
    for file in (mark, name):
        (tmp_path / file).write_bytes(b"x")
    found = find(tmp_path)[artefact]
    assert (tmp_path / name in found.allowed) is goes
    assert (tmp_path / name in found.stay) is not goes


def test_folders_below_an_artefact_stay(tmp_path):
    (tmp_path / "checkpoint-40").mkdir()
    for folder in (tmp_path, tmp_path / "checkpoint-40"):
        (folder / "adapter_config.json").write_text("{}")
    assert find(tmp_path)["adapter"].allowed == (tmp_path / "adapter_config.json",)


def test_without_a_choice_everything_there_goes(tmp_path):
    run_folders.write_full_run(tmp_path)
    chosen = choose(tmp_path, None)
    assert [artefact.name for artefact in chosen] == ["adapter", "merged", "gguf"]


@pytest.mark.parametrize(
    ("what", "removed", "expected"),
    [
        pytest.param(("merged",), ("merged",), "merged was to be published, but", id="absent"),
        pytest.param(
            ("adapter",), ("adapter/adapter_model.safetensors",), "lacks adapter_model", id="half"
        ),
        pytest.param(("merged",), ("merged/model.safetensors",), "lacks model", id="no-weights"),
    ],
)
def test_a_wrong_choice_is_refused(tmp_path, what, removed, expected):
    run_folders.write_full_run(tmp_path)
    for name in removed:
        path = tmp_path / name
        path.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=expected):
        choose(tmp_path, what)


def test_a_base_does_not_go_alone(tmp_path):
    run_folders.write_full_run(tmp_path)
    run_folders.write_merged(tmp_path / "base")
    with pytest.raises(UserError, match="goes along with an adapter"):
        choose(tmp_path, ("base",), tmp_path / "base")
    assert len(choose(tmp_path, ("adapter", "base"), tmp_path / "base")) == 2


def test_a_missing_shard_is_found(tmp_path):
    run_folders.write_merged(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    run_folders.write_json(tmp_path / "model.safetensors.index.json", {"weight_map": shards})
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002\.safetensors"):
        choose(tmp_path, None)


def test_an_empty_folder_has_nothing_to_publish(tmp_path):
    with pytest.raises(UserError, match="nothing to publish"):
        choose(tmp_path, None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("adapter",), {"adapter": "x"}),
        (("adapter", "gguf"), {"adapter": "x", "gguf": "x"}),
        (("adapter", "merged"), {"adapter": "adapter/x", "merged": "x"}),
        (("adapter", "base"), {"adapter": "x", "base": "base/x"}),
    ],
)
def test_an_adapter_never_lies_beside_merged_weights(names, expected):
    with_merged = "merged" in names
    assert {name: target_of(name, "x", with_merged=with_merged) for name in names} == expected


def planned(path: Path):
    return artefact_file(path.name, OwnFile(path.parent, path), None, (), lambda count: None)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("w.safetensors", b"\x80\x04\x95pickle" * 9, "expected a safeten", id="pickle"),
        pytest.param("w.safetensors", b"", "expected a safetensors", id="empty"),
        pytest.param(
            "w.safetensors", run_folders.safetensors(99)[:-1], "cut short", id="cut-short"
        ),
        pytest.param("w.gguf", b"GGML" + b"\0" * 60, "GGUF", id="another-magic"),
        pytest.param("w.gguf", run_folders.gguf()[:-1], "w.gguf", id="gguf-cut-short"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        planned(tmp_path / name)


def test_whole_weights_pass(tmp_path):
    for name, content in (
        ("w.safetensors", run_folders.safetensors(99)),
        ("w.gguf", run_folders.gguf()),
    ):
        (tmp_path / name).write_bytes(content)
        assert planned(tmp_path / name).size == len(content)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (None, None),
        ([], None),
        ([""], None),
        (["adapter", "gguf"], ("adapter", "gguf")),
        (["adapter gguf"], ("adapter", "gguf")),
    ],
)
def test_the_words_of_what(words, names):
    assert parse_what(words) == names


@pytest.mark.parametrize("word", ["weights", "adapters", "Adapter", "adapter,gguf"])
def test_another_word_is_refused(word):
    with pytest.raises(UserError, match="expected any of adapter, merged, base, gguf, got"):
        parse_what(["adapter", word])


def test_a_name_that_no_command_line_could_hold_is_refused(tmp_path):
    run_folders.write_gguf(tmp_path, "m; rm -q8_0.gguf")
    with pytest.raises(UserError, match="expected file names of letters, digits"):
        choose(tmp_path, None)

"""Which model is evaluated: where it is, which bytes it is, and that no pickle is read."""

import shutil

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import save_file

from hub_server import serve
from xmlgrpo_evaluator.identity import differences
from xmlgrpo_evaluator.models import Model, any_model, check_weights, pinned
from xmlgrpo_rewards.errors import UserError

SHA, OTHER = "ab" * 20, "cd" * 20
TOKEN = "hf_" + "r" * 30  # pragma: allowlist secret


@pytest.fixture
def folder(tmp_path):
    """A model's folder, by its looks."""
    place = tmp_path / "models" / "x"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    save_file({"a": torch.zeros(2)}, place / "model.safetensors")
    return place


def model(source, adapter=None) -> Model:
    return any_model(str(source), adapter=adapter, tokenizer=None, backend=None)


@pytest.mark.parametrize(
    "name", ["~/models/x", "../models/x", "../models/y.gguf", "~/models/y.gguf"]
)
def test_a_short_path_is_a_full_one_for_good(folder, tmp_path, monkeypatch, name):
    (tmp_path / "models" / "y.gguf").touch()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    found = model(name, adapter=None if name.endswith("gguf") else name)
    monkeypatch.chdir("/")
    for place in found.places:
        assert place.samefile(tmp_path / "models" / name.rpartition("/")[2])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "x.ckpt"])
@pytest.mark.parametrize("what", ["model", "adapter"])
def test_a_pickle_is_no_weights(folder, tmp_path, name, what):
    pickled = folder.with_name("pickled")
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / name)
    asked = model(pickled) if what == "model" else model(folder, adapter=str(pickled))
    with pytest.raises(UserError, match=rf"pickled has no \*\.safetensors, and {name} is not read"):
        check_weights([asked])


def test_a_pickle_beside_the_weights_is_not_minded(folder):
    (folder / "training_args.bin").write_bytes(b"\x80\x02")
    check_weights([model(folder)])


def test_weights_that_are_cut_short_are_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"model\.safetensors: its header promises"):
        check_weights([model(folder)])


@pytest.mark.parametrize(
    ("there", "asked", "same"),
    [
        pytest.param({"content": "a"}, {"content": "a"}, True, id="files"),
        pytest.param({"content": "a"}, {"content": "b"}, False, id="other-files"),
        pytest.param({"content": None}, {"content": None}, False, id="nothing-was-digested"),
        pytest.param({"content": None}, {"content": "a"}, False, id="nothing-was-digested-then"),
        pytest.param({"revision": SHA}, {"revision": SHA}, True, id="a-commit"),
        pytest.param({"revision": SHA}, {"revision": OTHER}, False, id="another-commit"),
        pytest.param({"revision": None}, {"revision": SHA}, False, id="no-commit-was-noted"),
        pytest.param(
            {"content": "a", "revision": SHA},
            {"content": "a", "revision": OTHER},
            False,
            id="one-adapter-over-another-commit",
        ),
        pytest.param(None, {"content": None}, False, id="no-model"),
    ],
)
def test_a_result_is_taken_for_the_weights_that_were_digested(there, asked, same):
    whole = {"source": "x", "adapter": None, "revision": None, "content": None}
    before = None if there is None else {**whole, **there, "source": "elsewhere"}
    differing = differences({"model": before}, {"model": {**whole, **asked}}, ())
    assert differing == ([] if same else ["model"])


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_an_id_of_the_hub_is_pinned_to_what_it_means_now(monkeypatch):
    with serve({TOKEN: ("alice", "write")}) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        api = HfApi(endpoint=hub.url, token=TOKEN)
        api.create_repo("alice/m")
        first = pinned(model("alice/m"))
        upload(api, b"{}")
        second = pinned(model("alice/m"))
        assert pinned(first) == first
    commits = (first.revision, second.revision)
    assert all(len(commit or "") == 40 for commit in commits)
    assert len(set(commits)) == 2


def upload(api: HfApi, content: bytes) -> None:
    api.upload_file(path_or_fileobj=content, path_in_repo="config.json", repo_id="alice/m")


def test_an_id_that_nobody_knows_is_a_sentence(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"no model 'org/name' here, and the Hub does not give it"):
        pinned(model("org/name"))
    with pytest.raises(UserError, match=r"no adapter 'org/lora' here, and the Hub does not give"):
        pinned(model("org/name", adapter="org/lora"))


def test_a_folder_is_what_its_files_are(folder):
    assert pinned(model(folder)) == model(folder)
    before = model(folder).identity()
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    assert differences({"model": before}, {"model": model(folder).identity()}, ()) == ["model"]

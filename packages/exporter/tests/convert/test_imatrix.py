"""The importance matrix: what needs one, what is in it, and the names of its rows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from xmlgrpo_exporter.convert.imatrix import gguf_name, write_imatrix
from xmlgrpo_gguf.header import read_header
from xmlgrpo_rewards.errors import UserError

from ..exporting import FEW, QUIET, run_cli
from ..tiny_runs import problems


@pytest.mark.gguf
@pytest.mark.slow
def test_importance_matrix_makes_what_needs_one(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    data = tmp_path / "questions.jsonl"
    data.write_text("\n".join(json.dumps({"question": question}) for question, _ in problems(16)))
    words = ("gguf", "--run", run, "--data", data, "--quants", "iq2_xs", "--imatrix", *FEW)
    assert run_cli(*words, "--max-kl", "1", "--min-top1", "0.5") == 0
    assert not (run / "gguf" / "tiny-iq2_xs.gguf").exists()
    assert read_header(run / "gguf" / "tiny-imat-iq2_xs.gguf").metadata["general.file_type"] == 20


@pytest.mark.gguf
@pytest.mark.slow
def test_importance_matrix_is_the_mean_square_of_the_inputs(reference, tmp_path):
    import numpy as np
    import torch

    checked = replace(reference, replies=reference.replies[:2])
    tokens = write_imatrix(checked, tmp_path / "m.npz")
    prompts, new_tokens = reference.ids[2:4], reference.comparison.new_tokens
    replies = reference.model.greedy(prompts, new_tokens, QUIET, "replies")
    model = reference.model.model.model
    with torch.inference_mode():
        # the first layer's projections read the normalised embeddings, which are easy to compute
        ids = [torch.tensor(p + r) for p, r in zip(prompts, replies, strict=True)]
        rows = model.layers[0].input_layernorm(model.embed_tokens(torch.cat(ids)))
    with np.load(tmp_path / "m.npz") as stored:
        assert len(stored.files) == 2 * 7  # layers, projections a layer
        found = stored["blk.0.attn_q.weight"]
    assert tokens == len(rows)
    np.testing.assert_allclose(found, rows.square().mean(0).numpy(), rtol=1e-5)


@pytest.mark.gguf
@pytest.mark.slow
def test_importance_matrix_wants_questions_of_its_own(exported, tmp_path):
    run = Path(shutil.copytree(exported, tmp_path / "tiny"))
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "one?"}\n')
    words = ("gguf", "--run", run, "--data", data, "--quants", "iq2_xs", "--imatrix", *FEW)
    with pytest.raises(UserError, match="besides the 1 of the check, 0 are left"):
        run_cli(*words)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        pytest.param("model.layers.3.self_attn.q_proj", "blk.3.attn_q.weight", id="text"),
        pytest.param(
            "model.language_model.layers.0.mlp.down_proj", "blk.0.ffn_down.weight", id="multimodal"
        ),
        pytest.param("model.vision_tower.encoder.layers.0.self_attn.q_proj", None, id="vision"),
        pytest.param("model.layers.0.self_attn.q_norm", None, id="norm"),
        pytest.param("lm_head", None, id="head"),
    ],
)
def test_names_in_the_importance_matrix(module, expected):
    assert gguf_name(module) == expected

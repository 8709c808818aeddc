"""Scoring in parts against trl's own one pass, on a real trainer."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer

from small_models import tiny, tiny_gemma
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_trainer.config import batch
from xmlgrpo_trainer.grpo.fast_step.speed_up import score_in_parts, use_frozen_norms

pytestmark = pytest.mark.skipif(
    not hasattr(grpo_trainer, "_ChunkedLogProbFunction"),
    reason="this trl cuts every pass by rows itself, and holds no whole logits",
)
ROWS, LENGTH, COMPLETION = 6, 10, 4


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "x": 2}, "x"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = GRPOTrainer(
        model=tiny_gemma(vocab_size=64),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words,
            pad_token="<pad>",  # noqa: S106 - a token of text
            eos_token="<eos>",  # noqa: S106 - a token of text
        ),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path_factory.mktemp("trl")),
            per_device_train_batch_size=2,
            num_generations=2,
            use_cpu=True,
            bf16=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 4),
    )
    made.use_liger_kernel = True  # logits in chunks: that path needs no kernel of liger's
    return made


def scored(trainer: Any, **named: Any) -> Any:
    torch.manual_seed(1)
    ids = torch.randint(2, 64, (ROWS, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    with torch.no_grad():
        logprobs, entropies, loss = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, COMPLETION, **named
        )
    assert entropies is None
    assert loss is None
    return logprobs


def test_parts_give_what_one_pass_gives(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BUSY_TOKENS", 2 * LENGTH)  # two texts together
    seen: list[int] = []
    chunked = trainer._chunked_logps

    def noted(model: Any, input_ids: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        seen.append(len(input_ids))
        return chunked(model, input_ids, *arguments, **named)

    monkeypatch.setattr(trainer, "_chunked_logps", noted)
    own = trainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", own)  # put back afterwards
    expected = scored(trainer, batch_size=1, num_images=None)
    score_in_parts(trainer)
    found = scored(trainer, batch_size=1, num_images=None)
    assert seen == [ROWS, 2, 2, 2]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert found.shape == (ROWS, COMPLETION)


def test_a_backward_pass_is_not_cut(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BUSY_TOKENS", LENGTH)
    own = trainer._get_per_token_logps_and_entropies
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", own)
    score_in_parts(trainer)
    ids = torch.randint(2, 64, (ROWS, LENGTH))
    logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, torch.ones_like(ids), COMPLETION, compute_entropy=True
    )
    assert logprobs.requires_grad
    assert entropies.shape == (ROWS, COMPLETION)


@pytest.mark.parametrize(
    ("length", "micro_batch", "expected"),
    [
        pytest.param(454, 64, 64, id="a-backward-pass-holds-more"),
        pytest.param(454, 16, 36, id="many-short"),
        pytest.param(32_768, 1, 1, id="one-long"),
    ],
)
def test_as_many_rows_as_fill_the_gpu(length: int, micro_batch: int, expected: int) -> None:
    assert batch.rows_together(length, micro_batch) == expected


@pytest.mark.parametrize(
    ("family", "told"),
    [
        pytest.param("gemma-2", "expected a model of the type .*, got gemma2; set it", id="family"),
        pytest.param("llama-3", "its kernels need a GPU; set it to false", id="device"),
    ],
)
def test_norms_that_cannot_be_frozen_are_named(family: str, told: str) -> None:
    trainer = SimpleNamespace(model=tiny(family))
    with pytest.raises(UserError, match=f"^frozen_norms: {told}"):
        use_frozen_norms(trainer)

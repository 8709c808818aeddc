"""Every loss of trl's learns the same from packed rows, with rows left out, as from padded ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from xmlgrpo_trainer.grpo.packed_step.step import (
    leave_out_rows_without_advantage,
    use_packed_rows,
)

from .test_gradients import PROMPTS, ROWS, batch, small

ADVANTAGES = (0.7, 0.0, -0.4, 1.1, -0.3, 0.0, -1.1)  # the second prompt's group has none


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "x": 2}, "x"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        per_device_train_batch_size=2,
        num_generations=2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
    )
    made = GRPOTrainer(
        model=small("gemma-3"),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words,
            pad_token="<pad>",  # noqa: S106 - a token of text
            eos_token="<eos>",  # noqa: S106 - a token of text
        ),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 4),
    )
    made.current_gradient_accumulation_steps = 1  # as its loop sets it
    return made


def inputs() -> dict[str, Any]:
    """A generation batch as trl makes it, of a policy and a reference that are a little off."""
    ids, mask, length = batch()
    torch.manual_seed(4)

    def near() -> torch.Tensor:
        return -4.1 + 0.3 * torch.randn(len(ROWS), length)

    return {
        "prompt_ids": ids[:, :-length],
        "prompt_mask": mask[:, :-length],
        "completion_ids": ids[:, -length:],
        "completion_mask": mask[:, -length:],
        "advantages": torch.tensor(ADVANTAGES),
        "num_items_in_batch": mask[:, -length:].sum(),
        "old_per_token_logps": near(),
        "ref_per_token_logps": near(),
        "importance_sampling_ratio": torch.rand(len(ROWS), 1),
    }


@contextmanager
def changed(trainer: Any, **settings: Any) -> Iterator[None]:
    """A trainer with other settings, which is afterwards what it was."""
    before, arguments = dict(vars(trainer)), dict(vars(trainer.args))
    for name, value in settings.items():
        setattr(trainer if hasattr(trainer, name) else trainer.args, name, value)
    try:
        yield
    finally:
        for of, kept in ((trainer, before), (trainer.args, arguments)):
            vars(of).clear()
            vars(of).update(kept)


def learnt(
    trainer: Any, parts: int, *, packed: bool, **settings: Any
) -> tuple[Any, list[Any], int]:
    """Loss, gradients and computed tokens of a step in so many parts."""
    model, computed = trainer.model, 0

    def count(_module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        nonlocal computed
        computed += named["input_ids"].numel()

    with changed(trainer, current_gradient_accumulation_steps=parts, **settings):
        trainer.args.steps_per_generation = parts
        model.train()
        if packed:
            use_packed_rows(trainer)
            leave_out_rows_without_advantage(trainer)
        counting = model.base_model.model.model.register_forward_pre_hook(count, with_kwargs=True)
        whole, rows = inputs(), range(len(ROWS))
        losses = []
        for part in (list(rows[at::parts]) for at in range(parts)):
            micro = {n: v[part] if v.dim() else v for n, v in whole.items()}
            loss = trainer.compute_loss(model, micro)
            loss.backward()
            losses.append(loss.detach())
        counting.remove()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    model.zero_grad(set_to_none=True)
    return torch.stack(losses), gradients, computed


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    **{kind: (1, {"loss_type": kind}) for kind in ("dapo", "grpo", "bnpo", "dr_grpo", "cispo")},
    **{f"{kind}-in-two-parts": (2, {"loss_type": kind}) for kind in ("dapo", "grpo", "bnpo")},
    "sapo": (1, {"loss_type": "sapo"}),
    "luspo": (1, {"loss_type": "luspo", "importance_sampling_level": "sequence"}),
    "vespo": (1, {"loss_type": "vespo"}),
    "gspo": (1, {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    "clip-higher": (1, {"epsilon_high": 0.28, "epsilon_low": 0.1}),
    "two-sided": (1, {"delta": 1.05}),
    "off-policy-mask": (1, {"off_policy_mask_threshold": 0.1}),
    "importance-correction": (1, {"use_vllm": True, "vllm_importance_sampling_correction": True}),
    "reference": (1, {"beta": 0.1}),
    "reference-in-two-parts": (2, {"beta": 0.1, "loss_type": "grpo"}),
    "entropy-bonus": (1, {"_entropy_bonus_enabled": True, "entropy_coef": 0.05}),
    "high-entropy-tokens": (1, {"top_entropy_quantile": 0.5}),
}
CHECKPOINTED = {"dapo-checkpointed": "dapo", "reference-checkpointed": "reference"}
OWN_TERM = ("reference", "entropy", "high-entropy")  # then nothing is left out


@pytest.mark.parametrize("name", [*CASES, *CHECKPOINTED])
def test_loss_and_gradients_are_those_of_padded_rows(trainer: Any, name: str) -> None:
    parts, settings = CASES[CHECKPOINTED.get(name, name)]
    expected, expected_gradients, padded = learnt(trainer, parts, packed=False, **settings)
    if name in CHECKPOINTED:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    found, gradients, computed = learnt(trainer, parts, packed=True, **settings)
    trainer.model.gradient_checkpointing_disable()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert len(gradients) > 20
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()
    assert computed < padded
    if parts == 1:
        is_whole = name.startswith(OWN_TERM)
        rows = [row for row, kept in zip(ROWS, ADVANTAGES, strict=True) if is_whole or kept]
        prompts = sum(len(PROMPTS[prompt]) for prompt in {prompt for prompt, _ in rows})
        assert computed == prompts + sum(max(0, written - 1) for _, written in rows)

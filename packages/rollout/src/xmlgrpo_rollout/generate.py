"""The `generate` engine: the same call for every model, through transformers' `generate`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from xmlgrpo_rollout.attention_guard import guard_transformers
from xmlgrpo_rollout.engine import Completion, Sampling, left_padded
from xmlgrpo_rollout.stop_tokens import cut_after_stop
from xmlgrpo_rollout.weights import float32_product


class GenerateEngine:
    """Completes prompts with any transformers model, with or without an adapter.

    Args:
        model: a causal language model with `generate`.
    """

    def __init__(self, model: Any, stop_ids: Sequence[int], pad_id: int) -> None:
        guard_transformers()
        self.model = model
        self.stop_ids = tuple(stop_ids)
        self.pad_id = pad_id

    def refresh(self) -> None:
        """Nothing to do: the model itself is asked."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling
    ) -> list[Completion]:
        """Complete every prompt `samples` times; see `xmlgrpo_rollout.engine.Engine`."""
        if not prompts:
            return []
        padded, padding = left_padded(prompts, self.pad_id)
        length = len(padded[0])
        seen = [[0] * pad + [1] * (length - pad) for pad in padding]
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), head_in_float32(self.model):
                texts_R_T = self.model.generate(
                    input_ids=torch.tensor(padded, device=self.model.device),
                    attention_mask=torch.tensor(seen, device=self.model.device),
                    generation_config=self._config(samples, sampling),
                )
        finally:
            self.model.train(was_training)
        completions = texts_R_T[:, length:].tolist()
        return [Completion(cut_after_stop(tokens, self.stop_ids)) for tokens in completions]

    def _config(self, samples: int, sampling: Sampling) -> GenerationConfig:
        """Every field that decides a token is named: transformers fills gaps from the model."""
        greedy = sampling.is_greedy
        return GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            num_return_sequences=samples,
            do_sample=not greedy,
            # unused when greedy, but anything but transformers' own defaults is warned about then
            temperature=1.0 if greedy else sampling.temperature,
            top_p=1.0 if greedy else sampling.top_p,
            top_k=50 if greedy else sampling.top_k,
            min_p=None if greedy else sampling.min_p,
            repetition_penalty=1.0,
            num_beams=1,
            use_cache=True,
            eos_token_id=list(self.stop_ids),
            pad_token_id=self.pad_id,
        )


@contextmanager
def head_in_float32(model: Any) -> Iterator[None]:
    """Have a model's head give float32 logits meanwhile; a head of another kind is left alone."""
    head = model.get_output_embeddings()
    is_plain = type(head) is torch.nn.Linear and head.bias is None
    own = vars(head).get("forward")  # accelerate puts one there, too
    # the trainer's float16_products gives float32 already, of states that float16 cannot hold
    is_wide = own is not None and head.weight.dtype == torch.float16
    if not is_plain or is_wide or head.weight.dtype == torch.float32:
        yield
        return

    def product(hidden: Tensor) -> Tensor:
        logits = float32_product(hidden.flatten(0, -2), head.weight)
        return logits.view(*hidden.shape[:-1], -1)

    head.forward = product
    try:
        yield
    finally:
        del head.forward
        if own is not None:
            head.forward = own

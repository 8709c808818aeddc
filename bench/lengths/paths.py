"""How far each way of computing a text is from plain mathematics, at every length.

The model is small, with the attention of a true Gemma 3 where a GPU is at hand: only that depends
on the length.  Plain mathematics is transformers' "eager" attention in float32, products and a
softmax, which no kernel of torch's attention has part in.  Since the model is causal, one pass over
whole texts is the reference for all their beginnings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from xmlgrpo_rollout import attention_guard as attention
from xmlgrpo_rollout.cpu.engine import StaticEngine
from xmlgrpo_rollout.engine import Completion, Engine, Sampling
from xmlgrpo_rollout.generate import GenerateEngine
from xmlgrpo_trainer.grpo.fast_step.padding import align_left

LONGEST = 600
PAD, NO_TOKEN, FIRST_TOKEN = 0, 10**6, 7  # a stop token that no text has: all grow to the limit
ROWS = 4

# (model, reference, texts_B_T, lengths) -> length -> distance
Path = Callable[[Any, Any, Tensor, Sequence[int]], dict[int, float]]


@dataclass(frozen=True)
class Shape:
    """A model's."""

    heads: int
    kv_heads: int
    head_dim: int
    hidden: int = 640
    mlp: int = 512
    vocabulary: int = 512


SHAPES = {  # heads as Gemma 3's, and widths that cost little
    "270m-1b": Shape(4, 1, 256),
    "4b": Shape(8, 4, 256),
    "12b": Shape(16, 8, 256),
    "tiny-1": Shape(2, 1, 8, hidden=16, mlp=16, vocabulary=64),
    "tiny-4": Shape(8, 4, 8, hidden=16, mlp=16, vocabulary=64),
    "tiny-8": Shape(16, 8, 8, hidden=16, mlp=16, vocabulary=64),
}


@dataclass(frozen=True)
class Case:
    """What is computed, and how.

    Attributes:
        path: a key of `PATHS`.
        shape: a key of `SHAPES`.
        dtype: a number type of torch.
        window: tokens that the sliding layer sees.
        cudnn: whether torch may take cuDNN's attention.
        adapted: whether the model has a LoRA adapter.
        guarded: whether we keep clear of torch's fault.
        added: tokens that an engine writes after a prompt.
    """

    path: str
    shape: str = "270m-1b"
    dtype: str = "bfloat16"
    window: int = 512
    cudnn: bool = False
    adapted: bool = False
    guarded: bool = True
    added: int = 4

    @property
    def name(self) -> str:
        """For people."""
        words = [self.path, self.shape, self.dtype, f"window {self.window}"]
        words += ["cuDNN"] * self.cudnn + ["LoRA"] * self.adapted
        return ", ".join([*words, *["unguarded"] * (not self.guarded)])


def measure(case: Case, lengths: Sequence[int], device: torch.device) -> dict[int, float]:
    """The distance from plain mathematics at each length; see the case's path for what it is."""
    torch.manual_seed(0)
    model = make_model(case).to(device)
    texts_B_T = torch.randint(
        FIRST_TOKEN, SHAPES[case.shape].vocabulary, (ROWS, LONGEST), device=device
    )
    reference = deepcopy(model).float()
    base(reference).set_attn_implementation("eager")
    with switched(case):
        if case.path in PASSES:
            return PASSES[case.path](model, reference, texts_B_T, lengths)
        engine, temperature = make_engine(case.path, model)
        sampling = Sampling(case.added, temperature=temperature)
        return by_engine(engine, sampling, reference, texts_B_T, lengths)


@contextmanager
def switched(case: Case) -> Iterator[None]:
    """Have torch's attention as the case asks, and as it was afterwards."""
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # torch's own gap
    torch.backends.cuda.enable_cudnn_sdp(case.cudnn)
    attention.guard_transformers()
    unguarded = patch.object(attention, "misreads", return_value=False)
    try:
        with nullcontext() if case.guarded else unguarded:
            yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def make_model(case: Case) -> Any:
    """One sliding and one full layer, whose attention is sharp enough for a lost key to show.

    The last norm turns its input round: since one matrix reads and writes tokens, a token of a wide
    model would else be followed by itself, whatever the attention says.
    """
    shape = SHAPES[case.shape]
    model = Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.mlp,
            num_hidden_layers=2,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            query_pre_attn_scalar=shape.head_dim,
            max_position_embeddings=2 * LONGEST,
            sliding_window=case.window,
            layer_types=["sliding_attention", "full_attention"],
            initializer_range=shape.hidden**-0.5,
            pad_token_id=PAD,
            eos_token_id=[1],
            bos_token_id=2,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_norm.weight.fill_(1.0)  # added to 1
        model.model.norm.weight.fill_(-2.0)
    if case.adapted:
        lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.02)
    return model.to(getattr(torch, case.dtype)).eval()


# --- engines: what they wrote, token by token


def make_engine(name: str, model: Any) -> tuple[Engine, float]:
    """The engine, and a temperature at which it tells log-probabilities, if it ever does."""
    if name == "generate":
        return GenerateEngine(model, [NO_TOKEN], PAD), 0.0
    if model.device.type != "cuda":
        return StaticEngine(model, [NO_TOKEN], PAD), 0.0
    from xmlgrpo_rollout.gpu.engine import GraphEngine  # noqa: PLC0415 - Triton is not everywhere

    return GraphEngine(model, [NO_TOKEN], PAD), 1.0


@torch.no_grad()
def by_engine(
    engine: Engine, sampling: Sampling, reference: Any, texts_B_T: Tensor, lengths: Sequence[int]
) -> dict[int, float]:
    """Prompts of each length, and shorter ones beside it, completed: how far their tokens are.

    It is the mean over a batch, of the place after the prompt where it is largest: 1, 2, ...
    """
    whole_B_T_V = reference(input_ids=texts_B_T, use_cache=False).logits
    samples = 1 if sampling.is_greedy else 2
    found = {}
    for length in lengths:
        prompts = [
            text[:kept] for text, kept in zip(texts_B_T.tolist(), beside(length), strict=True)
        ]
        written = engine(prompts, samples, sampling)
        prompts = [prompt for prompt in prompts for _ in range(samples)]
        if sampling.max_new_tokens == 1:
            rows = torch.arange(ROWS).repeat_interleave(samples)
            last = torch.tensor([len(prompt) - 1 for prompt in prompts])
            logits_R_A_V = whole_B_T_V[rows, last][:, None]
        else:
            logits_R_A_V = ending(reference, prompts, written)
        found[length] = far(logits_R_A_V, written).mean(0).max().item()
    return found


def beside(length: int) -> tuple[int, int, int, int]:
    """How long the prompts of a batch are, the longest first."""
    return length, length, max(1, length - 3), (length + 1) // 2


def ending(reference: Any, prompts: list[list[int]], written: list[Completion]) -> Tensor:
    """The logits that the A tokens after each prompt should have been chosen by, (R, A, V)."""
    added, longest = len(written[0].tokens), len(prompts[0])
    ids_R_T = torch.tensor(
        [
            # padding behind a text: none of its tokens sees it
            [*prompt, *done.tokens, *[PAD] * (longest - len(prompt))]
            for prompt, done in zip(prompts, written, strict=True)
        ],
        device=reference.device,
    )
    last_R_1 = torch.tensor([[len(prompt) - 1] for prompt in prompts])
    at_R_A_1 = (last_R_1 + torch.arange(added))[:, :, None].to(reference.device)
    logits_R_T_V: Tensor = reference(input_ids=ids_R_T, use_cache=False).logits
    return logits_R_T_V.gather(1, at_R_A_1.expand(-1, -1, logits_R_T_V.shape[2]))


def far(logits_R_A_V: Tensor, written: list[Completion]) -> Tensor:
    """How far each token is from what the reference says of it, (R, A).

    The difference of the log-probabilities, where the engine tells its own; else what the token
    falls short of the likeliest by.
    """
    logprobs_R_A_V = logits_R_A_V.log_softmax(-1)
    tokens_R_A = torch.tensor([done.tokens for done in written], device=logits_R_A_V.device)
    theirs_R_A = logprobs_R_A_V.gather(2, tokens_R_A[:, :, None])[:, :, 0]
    if written[0].logprobs is None:
        return logprobs_R_A_V.amax(-1).sub(theirs_R_A)
    own_R_A = torch.tensor([done.logprobs for done in written], device=logits_R_A_V.device)
    return (own_R_A - theirs_R_A).abs()


def base(model: Any) -> Any:
    """The transformers model inside a peft one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


# --- one pass over texts, as scoring and training make it


def padded(texts_B_T: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask: padding before, as prompts get it, and behind, as replies."""
    mask_B_T = torch.ones(ROWS, length, dtype=torch.long, device=texts_B_T.device)
    for row, (before, behind) in enumerate(((0, 0), (3, 0), (0, 5), (length // 2, length // 8))):
        if before + behind < length:
            mask_B_T[row, :before] = 0
            mask_B_T[row, length - behind :] = 0
    before_B_1 = mask_B_T.argmax(1, keepdim=True)
    places_B_T = (torch.arange(length, device=texts_B_T.device) - before_B_1).clamp(min=0)
    return texts_B_T.gather(1, places_B_T) * mask_B_T, mask_B_T


@torch.no_grad()
def by_forward(
    model: Any, reference: Any, texts_B_T: Tensor, lengths: Sequence[int]
) -> dict[int, float]:
    """A pass without gradient: the mean distance of a token's log-probabilities, the worst's."""
    whole_B_T_V = reference(input_ids=texts_B_T, use_cache=False).logits.log_softmax(-1)
    found = {}
    for length in lengths:
        ids_B_T, mask_B_T = padded(texts_B_T, length)
        logits = model(input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False).logits
        logprobs = logits.float().log_softmax(-1)[mask_B_T.bool()]
        counts = mask_B_T.sum(1).tolist()
        expected = torch.cat([whole_B_T_V[row, :count] for row, count in enumerate(counts)])
        found[length] = (logprobs - expected).abs().mean(-1).amax().item()
    return found


def by_backward(
    model: Any, reference: Any, texts_B_T: Tensor, lengths: Sequence[int]
) -> dict[int, float]:
    """A pass and the one back: relative distance of hidden states or gradients, the larger."""
    noise_B_T_C = torch.randn(
        ROWS, LONGEST, base(model).config.hidden_size, device=texts_B_T.device
    )
    found = {}
    for length in lengths:
        batch = (*padded(texts_B_T, length), noise_B_T_C[:, :length])
        pairs = zip(learnt(model, *batch), learnt(reference, *batch), strict=True)
        found[length] = max(((one - other).norm() / other.norm()).item() for one, other in pairs)
    return found


def learnt(model: Any, ids_B_T: Tensor, mask_B_T: Tensor, noise_B_T_C: Tensor) -> list[Tensor]:
    """Hidden states after the texts' last tokens, those of all, and the gradient of all weights.

    The last tokens weigh as much as all others together in what is differentiated.
    """
    model.train()
    body = base(model).model
    hidden_B_T_C = body(
        input_ids=ids_B_T, attention_mask=mask_B_T, use_cache=False
    ).last_hidden_state
    length = ids_B_T.shape[1]
    last_B = length - 1 - mask_B_T.flip(1).argmax(1)
    rows_B = torch.arange(ROWS, device=ids_B_T.device)
    weight_B_T = mask_B_T.float()
    weight_B_T[rows_B, last_B] = length**0.5
    model.zero_grad(set_to_none=True)
    (hidden_B_T_C.float() * noise_B_T_C * weight_B_T[:, :, None]).sum().backward()
    gradients = [w.grad.float().flatten() for w in model.parameters() if w.grad is not None]
    hidden_B_T_C = hidden_B_T_C.detach().float()
    return [hidden_B_T_C[rows_B, last_B], hidden_B_T_C[mask_B_T.bool()], torch.cat(gradients)]


def by_recomputed(
    model: Any, reference: Any, texts_B_T: Tensor, lengths: Sequence[int]
) -> dict[int, float]:
    """The same where the first pass is made without gradient, as some checkpointing makes it."""
    base(model).gradient_checkpointing_enable({"use_reentrant": True})
    base(model).enable_input_require_grads()
    return by_backward(model, reference, texts_B_T, lengths)


def aligned(path: Path) -> Path:
    """The path on the quick way of training: padding moved behind the texts."""

    def by_aligned(
        model: Any, reference: Any, texts_B_T: Tensor, lengths: Sequence[int]
    ) -> dict[int, float]:
        if not align_left(model):
            raise RuntimeError("this model is not one that training aligns")
        return path(model, reference, texts_B_T, lengths)

    return by_aligned


PASSES: dict[str, Path] = {
    "forward": by_forward,
    "aligned-forward": aligned(by_forward),
    "backward": by_backward,
    "aligned-backward": aligned(by_backward),
    "recomputed-backward": by_recomputed,
}
PATHS = ("graph", "generate", *PASSES)

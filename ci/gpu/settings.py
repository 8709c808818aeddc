"""What is measured: thirteen settings that each move another part of the peak."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One measurement.

    Attributes:
        name: also of the result.
        size: of Gemma 3; the 4B has its vision tower, which is not trained.
        micro_batch: completions in one forward and backward pass.
        completion_tokens, prompt_tokens: every completion and prompt is that long.
        rank: of a LoRA adapter on all projections of the text model.
        beta: above 0 a reference pass is needed.
        quantized: linear layers in 4 bits (nf4, double quantisation).
        checkpointing: only each layer's input is kept for the backward pass.
        liger: logits in chunks.
        drawn: rows that transformers' generate draws at once; then the rollout's peak is what is
            measured.  0: replies are random ids, and the update's peak is.
    """

    name: str
    size: str
    micro_batch: int
    completion_tokens: int = 256
    prompt_tokens: int = 150
    rank: int = 16
    beta: float = 0.0
    quantized: bool = False
    checkpointing: bool = True
    liger: bool = False
    drawn: int = 0


SETTINGS = (
    Setting("1b-8x256", "1b", 8),
    Setting("1b-16x256", "1b", 16),
    Setting("1b-8x768", "1b", 8, completion_tokens=768),
    Setting("1b-prompt-400", "1b", 8, prompt_tokens=400),
    Setting("1b-rank-64", "1b", 4, rank=64),
    Setting("1b-no-checkpointing", "1b", 8, checkpointing=False),
    Setting("1b-32x256-liger", "1b", 32, liger=True),
    Setting("1b-32x256-beta", "1b", 32, beta=0.04),
    Setting("1b-rollout-64-rows", "1b", 8, completion_tokens=96, drawn=64),
    Setting("4b-nf4-4x256", "4b", 4, quantized=True),
    Setting("4b-nf4-8x512", "4b", 8, completion_tokens=512, quantized=True),
    Setting("4b-nf4-rollout-32-rows", "4b", 2, completion_tokens=48, quantized=True, drawn=32),
    Setting("4b-bf16-4x256", "4b", 4),
)

"""What a run asks of one GPU: the numbers that its memory and its time are counted from."""

from dataclasses import dataclass
from typing import Literal

from xmlgrpo_trainer.plan.shapes import ModelShape


@dataclass(frozen=True, slots=True)
class Load:
    """What a run asks of one GPU.

    Attributes:
        shape: of the model.
        number_bytes: of a weight that is not 4-bit; 2 for bfloat16, 4 for float32.
        quantized: linear layers in 4 bits.
        lora_weights: trained weights.
        optimizer_bytes: a trained weight's share of the optimiser's state, for both moments.
        engine: draws the completions.
        rows: completions drawn at once, if there is room.
        group: completions of one prompt.
        held_out_rows: completions drawn at once when held-out problems are asked.
        micro_batch: completions in one forward and backward pass.
        prompt_tokens, completion_tokens: the longest.
        held_out_tokens: the longest completion to a held-out problem.
        checkpointing: only each layer's input is kept for the backward pass.
        liger: Liger's norms and GeGLU, and no whole logits.
        ours: trl's training step with the operations of `xmlgrpo_trainer.grpo.fast_step`.
        fused_lora: each adapted projection is one of those operations; not with dropout or DoRA.
        ragged: prompts of unlike lengths, so that texts are padded and attention is masked ...
        aligned: ... unless `grpo.fast_step.padding` puts the padding behind the text.
        windowed: `grpo.fast_step.sliding_window` does without masks past a sliding window too.
        second_pass: log-probabilities of a reference, of an old policy or of the policy that an
            engine has rounded are needed too.
        vllm_gib: what vLLM takes for itself.
        room_gib: of the GPU; the graph engine fits its cache to what is free.  None: not known.
    """

    shape: ModelShape
    number_bytes: int
    quantized: bool
    lora_weights: int
    optimizer_bytes: float
    engine: Literal["generate", "graph", "vllm"]
    rows: int
    group: int
    held_out_rows: int
    micro_batch: int
    prompt_tokens: int
    completion_tokens: int
    held_out_tokens: int
    checkpointing: bool = True
    liger: bool = False
    ours: bool = False
    fused_lora: bool = False
    ragged: bool = True
    aligned: bool = False
    windowed: bool = False
    second_pass: bool = False
    vllm_gib: float = 0.0
    room_gib: float | None = None

    @property
    def adapter_bytes(self) -> int:
        """Of an adapter weight: trl makes a 4-bit model's bfloat16, else peft keeps float32."""
        return 2 if self.quantized else 4

    @property
    def length(self) -> int:
        """Tokens of a text: the longest prompt and the longest completion."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def adapter_rank(self) -> float:
        """Of LoRA on all projections; the mean over them where only some are adapted."""
        widths = sum(sum(sizes) for sizes in self.shape.projections().values())
        return self.lora_weights / (self.shape.layers * widths)

    @property
    def scored_rows(self) -> int:
        """Completions in one pass without gradient, where logits are not whole."""
        if not self.ours:
            return self.rows
        from xmlgrpo_trainer.grpo.fast_step.speed_up import rows_together

        return min(self.rows, rows_together(self.length, self.micro_batch))

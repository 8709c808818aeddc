"""The sizes of the experiment: the real one for a GPU, and the same code at sizes for a CPU."""

from dataclasses import dataclass

from xmlgrpo_trainer.tiny.settings import TinySettings


@dataclass(frozen=True, slots=True)
class Scale:
    """One size of everything.

    Attributes:
        shape: of the model and its vocabulary; what `TinySettings` says of a warm start is not
            used.
        pretrain_s: seconds of pretraining, from the first batch on.
        batch_tokens: of a pretraining step, padding included.
        max_tokens: of an example, prompt and reply; longer ones are left out.
        gsm8k_share: of the pretraining examples; the others are made up.
        easy_share: of the made-up problems, how many are the embedded default's.
        workers: processes that make examples.
        generated: problems made up for GRPO and its held-out cut.
        held_out: other made-up problems, asked before and after.
        gsm8k_test: rows of GSM8K's test split that are asked, or None for all.
        grpo_steps: at most.
        grpo_s: seconds after which GRPO is stopped.
        overrides: of `grpo.yaml`.
    """

    shape: TinySettings
    pretrain_s: float
    batch_tokens: int
    max_tokens: int
    gsm8k_share: float
    easy_share: float
    workers: int
    generated: int
    held_out: int
    gsm8k_test: int | None
    grpo_steps: int
    grpo_s: float
    overrides: tuple[str, ...] = ()


ON_A_CPU = ("model.device=cpu", "grpo.gradient_accumulation_steps=1")

SCALES = {
    # 31 M weights, 33 M with the embedding
    "gpu": Scale(
        shape=TinySettings(
            hidden_size=512,
            layers=8,
            heads=8,
            kv_heads=4,
            head_dim=64,
            mlp_size=2048,
            vocab_size=4096,
            sliding_window=1024,
        ),
        pretrain_s=210,
        batch_tokens=65_536,
        max_tokens=512,
        gsm8k_share=0.45,
        easy_share=0.25,
        workers=14,
        generated=12_000,
        held_out=1000,
        gsm8k_test=None,
        grpo_steps=150,
        grpo_s=200,
    ),
    # the embedded default's shape: does the recipe do what it should?
    "small": Scale(
        shape=TinySettings(vocab_size=1024),
        pretrain_s=600,
        batch_tokens=2048,
        max_tokens=320,
        gsm8k_share=0.05,
        easy_share=0.9,
        workers=1,
        generated=4000,
        held_out=300,
        gsm8k_test=200,
        grpo_steps=60,
        grpo_s=600,
        overrides=(
            *ON_A_CPU,
            "grpo.per_device_train_batch_size=64",
            "grpo.max_completion_length=128",
            "holdout.report_rows=100",
            "holdout.validation_rows=50",
        ),
    ),
    # the way, not the result: about a minute
    "tiny": Scale(
        shape=TinySettings(hidden_size=64, layers=2, heads=2, kv_heads=1, mlp_size=128),
        pretrain_s=8,
        batch_tokens=2048,
        max_tokens=320,
        gsm8k_share=0.2,
        easy_share=0.5,
        workers=1,
        generated=60,
        held_out=12,
        gsm8k_test=6,
        grpo_steps=2,
        grpo_s=300,
        overrides=(
            *ON_A_CPU,
            "grpo.per_device_train_batch_size=16",
            "grpo.max_completion_length=24",
            "grpo.save_steps=2",
            "holdout.every=2",
            "holdout.report_rows=12",
            "holdout.validation_rows=8",
        ),
    ),
}

"""How large the GSM8K experiment is: on H200s, and as a rehearsal on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass

from xmlgrpo_trainer.tiny.settings import TinySettings


@dataclass(frozen=True, slots=True)
class WarmStart:
    """One supervised warm start.

    Attributes:
        lr: the highest rate.
        epochs, seconds: whichever is over first ends it.
        keep: shares of the way at which the model is kept too.
    """

    lr: float
    epochs: float
    seconds: float
    keep: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes.

    Attributes:
        warm_starts: by name; the first has a GPU of its own.
        rows: words for `rows.py`.
        device: cuda or cpu.
        sampled_rows, samples: of the sampled accuracy.
        tokens: of a reply that is asked for outside of training.
        screen_samples, screen_s: samples a question, and when screening stops.
        rows_a_story: that GRPO trains on at most.
        pace: overrides of gsm8k.yaml for the few steps that tell how long a step takes.
        pace_s: of a step, where that could not be measured.
        look_s: of a validation.
        start_s, pick_s, test_s: kept free for an arm's start, for choosing, and for the test.
        most_steps: of GRPO.
        arm_lr: the highest rate of a supervised arm.
        own_epochs: of rejection sampling over its rows, as in arXiv 2308.01825.
        own_share: of its time, for sampling them.
        arm_keep: shares of its way at which its model is kept, to choose from.
        test_rows, test_sampled_rows: of the test split; None is all.
        overrides: of gsm8k.yaml.
        batch: rows of a supervised step.
    """

    warm_starts: Mapping[str, WarmStart]
    rows: tuple[str, ...]
    device: str
    sampled_rows: int
    samples: int
    tokens: int
    screen_samples: int
    screen_s: float
    rows_a_story: int
    pace: tuple[str, ...]
    pace_s: float
    look_s: float
    start_s: float
    pick_s: float
    test_s: float
    most_steps: int
    arm_lr: float
    own_epochs: float
    own_share: float
    arm_keep: tuple[float, ...]
    test_rows: int | None
    test_sampled_rows: int | None
    overrides: tuple[str, ...]
    batch: int


GPU = Scale(
    warm_starts={
        "s2": WarmStart(lr=1e-4, epochs=2, seconds=210),
        "s1": WarmStart(lr=1e-4, epochs=1, seconds=105),
    },
    rows=("--processes", "24", "--each", "20"),
    device="cuda",
    sampled_rows=600,
    samples=16,
    tokens=256,
    screen_samples=16,
    screen_s=90,
    rows_a_story=21,
    pace=(
        "grpo.max_steps=14",
        "grpo.save_steps=14",
        "holdout.every=14",
        "holdout.report_rows=64",
        "holdout.validation_rows=64",
    ),
    pace_s=1.8,
    look_s=5,
    start_s=60,
    pick_s=70,
    test_s=110,
    most_steps=1000,
    arm_lr=5e-5,
    own_epochs=3,
    own_share=0.4,
    arm_keep=(0.1, 0.25, 0.5),
    test_rows=None,
    test_sampled_rows=None,
    overrides=(),
    batch=64,
)
TINY_SHAPE = TinySettings(
    hidden_size=32, layers=1, heads=2, kv_heads=1, head_dim=16, mlp_size=48, vocab_size=500
)
TINY = Scale(
    warm_starts={
        "s2": WarmStart(lr=1e-3, epochs=1, seconds=20, keep=(0.5,)),
        "s1": WarmStart(lr=1e-3, epochs=0.5, seconds=20),
    },
    rows=("--limit", "240", "--each", "3", "--validation-retold", "24"),
    device="cpu",
    sampled_rows=8,
    samples=4,
    tokens=24,
    screen_samples=2,
    screen_s=20,
    rows_a_story=4,
    pace=("grpo.max_steps=6", "grpo.save_steps=6", "holdout.every=6"),
    pace_s=2,
    look_s=1,
    start_s=25,
    pick_s=25,
    test_s=40,
    most_steps=6,
    arm_lr=1e-3,
    own_epochs=1,
    own_share=0.5,
    arm_keep=(0.5,),
    test_rows=8,
    test_sampled_rows=4,
    overrides=(
        "holdout.report_rows=4",
        "holdout.validation_rows=4",
        "holdout.every=2",
        "grpo.save_steps=1",
        "grpo.per_device_train_batch_size=8",
        "grpo.gradient_accumulation_steps=1",
        "grpo.num_generations=4",
        "grpo.max_completion_length=16",
        "holdout.max_new_tokens=16",
    ),
    batch=16,
)

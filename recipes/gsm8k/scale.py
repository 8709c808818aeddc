"""How large the GSM8K experiment is: on H200s, and as a rehearsal on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WarmStart:
    """One supervised warm start.

    Attributes:
        retold: whether the retellings are trained on as well.
        lr: the highest rate.
        epochs, seconds: whichever is over first ends it.
    """

    retold: bool
    lr: float
    epochs: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes.

    Attributes:
        warm_starts: by name.
        rows: words for `rows.py`.
        device: cuda or cpu.
        sampled_rows, samples: of the sampled accuracy.
        tokens: of a reply that is asked for outside of training.
        screen_samples, screen_s: samples a question, and when screening stops.
        least_solved: share of the replies to a story that must be right to keep it.
        arm_s: seconds of a supervised arm, about what GRPO takes.
        arm_lr: its highest rate.
        test_rows, test_sampled_rows: of the test split.
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
    least_solved: float
    arm_s: float
    arm_lr: float
    test_rows: int | None
    test_sampled_rows: int
    overrides: tuple[str, ...]
    batch: int


GPU = Scale(
    warm_starts={
        "s0": WarmStart(retold=False, lr=1e-4, epochs=2, seconds=100),
        "s2": WarmStart(retold=True, lr=1e-4, epochs=2, seconds=230),
        "s3": WarmStart(retold=True, lr=2e-4, epochs=2, seconds=130),
    },
    rows=("--processes", "24"),
    device="cuda",
    sampled_rows=400,
    samples=16,
    tokens=256,
    screen_samples=8,
    screen_s=110,
    least_solved=1 / 12,
    arm_s=430,
    arm_lr=5e-5,
    test_rows=None,
    test_sampled_rows=400,
    overrides=(),
    batch=64,
)
TINY = Scale(
    warm_starts={
        "s0": WarmStart(retold=False, lr=1e-3, epochs=1, seconds=20),
        "s2": WarmStart(retold=True, lr=1e-3, epochs=1, seconds=20),
    },
    rows=("--limit", "120", "--each", "3", "--validation-retold", "24"),
    device="cpu",
    sampled_rows=8,
    samples=4,
    tokens=24,
    screen_samples=2,
    screen_s=20,
    least_solved=0,  # it solves nothing
    arm_s=5,
    arm_lr=1e-3,
    test_rows=8,
    test_sampled_rows=4,
    overrides=(
        "holdout.report_rows=4",
        "holdout.validation_rows=4",
        "holdout.every=2",
        "grpo.max_steps=4",
        "grpo.save_steps=2",
        "grpo.per_device_train_batch_size=8",
        "grpo.gradient_accumulation_steps=1",
        "grpo.num_generations=4",
        "grpo.max_completion_length=16",
        "holdout.max_new_tokens=16",
    ),
    batch=16,
)

"""Everything that decides what the tiny model is; a change of any field is another model."""

import math
from dataclasses import dataclass

from xmlgrpo_rewards.errors import UserError

SMALLEST_VOCABULARY = 384  # 256 bytes, 7 special pieces, some 60 letters, and the four tags
LARGEST_VOCABULARY = 262_144  # Gemma 3's
MOST_LAYERS = 256
MOST_PROBLEMS = 1_000_000  # of the warm start, which are all made before it
SMALLEST_OPERAND = 3  # a heap to take something from
SHARES = ("habit_share", "worked_before", "worked_habit", "tagged")


@dataclass(frozen=True, slots=True)
class TinySettings:
    """How the tiny model is made.  The defaults are the measured ones (docs/results.md)."""

    # the shape of the `Gemma3ForCausalLM`
    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    mlp_size: int = 384
    vocab_size: int = 704  # of the tokenizer; the embedding is most of a tiny model
    max_positions: int = 2048  # a GSM8K prompt (590 at most) and a reply of 1,024
    sliding_window: int = 512
    largest_operand: int = 12  # the largest number added or taken away in a problem
    warm_steps: int = 1400  # not seconds: the result must not depend on a busy machine
    warm_batch: int = 16  # problems per step
    warm_threads: int = 2  # share a step; fixed, as the order of a sum decides its last digits
    habit_share: float = 0.2  # the last part of the steps, in which guessing becomes the habit
    worked_before: float = 0.9  # share of worked answers before that part ...
    worked_habit: float = 0.3  # ... and in it
    tagged: float = 0.4  # share of answers in the reply format, independent of worked
    muon_lr: float = 0.02  # peak learning rate of the matrices
    adamw_lr: float = 3e-3  # and of the rest

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name in SHARES:
                self._expect(name, "a share from 0 to 1", holds=0 <= value <= 1)
            else:
                self._expect(name, "a finite number above 0", holds=0 < value < math.inf)
        self._expect(
            "heads",
            f"a multiple of kv_heads={self.kv_heads}",
            holds=self.heads % self.kv_heads == 0,
        )
        self._expect(
            "head_dim",
            "an even number: rotary positions turn pairs",
            holds=self.head_dim % 2 == 0,
        )
        self._expect("layers", f"at most {MOST_LAYERS}", holds=self.layers <= MOST_LAYERS)
        self._expect(
            "vocab_size",
            f"{SMALLEST_VOCABULARY} (bytes, special pieces, letters and the reply's tags) to "
            f"{LARGEST_VOCABULARY}",
            holds=SMALLEST_VOCABULARY <= self.vocab_size <= LARGEST_VOCABULARY,
        )
        self._expect(
            "largest_operand",
            f"{SMALLEST_OPERAND} or more: something is taken from every heap, and something left",
            holds=self.largest_operand >= SMALLEST_OPERAND,
        )
        self._expect(
            "warm_steps",
            f"at most {MOST_PROBLEMS:,} problems in warm_steps x warm_batch={self.warm_batch}",
            holds=self.warm_steps * self.warm_batch <= MOST_PROBLEMS,
        )
        self._expect(
            "warm_threads",
            f"at most warm_batch={self.warm_batch}: every thread computes a part of the batch",
            holds=self.warm_threads <= self.warm_batch,
        )

    def _expect(self, name: str, expected: str, *, holds: bool) -> None:
        if not holds:
            raise UserError(f"tiny.{name}: expected {expected}, got {getattr(self, name)!r}")

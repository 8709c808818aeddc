"""The `graph` engine on a GPU, and how much of it the engine takes.

`xmlgrpo-plan` counts with the same numbers; importing them imports nothing.
"""

from dataclasses import dataclass

ROWS = 1024  # completions that grow side by side at most
SLOTS_MULTIPLE = 128  # the tokens of a row are rounded up, so that few graphs serve all
MEMORY_SHARE = 0.4  # of the memory that is free: the most that the cache may take
PREFILL_TOKENS = 16_384  # read at once: longer batches of prompts are read in parts

NOISE, TILES, HEAD = "noise", "tiles", "head"  # how a token is drawn


@dataclass(frozen=True, slots=True)
class Ways:
    """How a decoding step is computed, where there are several ways.

    Attributes:
        draw: NOISE on each logit; a tile of the vocabulary and then a token of it, after the
            product with the head (TILES) or together with it (HEAD, where that product is ours;
            else TILES).  With top-k, top-p or min-p always NOISE.
        one_attention: one kernel an attention, not three.
        early: kernels are launched while the one before them runs, where the GPU can.
    """

    draw: str = NOISE
    one_attention: bool = False
    early: bool = False

"""The `graph` engine on a GPU, and how much of it the engine takes.

`xmlgrpo-plan` counts with the same numbers; importing them imports nothing.
"""

from dataclasses import dataclass

ROWS = 1024  # completions that grow side by side at most
SLOTS_MULTIPLE = 128  # the tokens of a row are rounded up, so that few graphs serve all
MEMORY_SHARE = 0.4  # of the memory that is free: the most that the cache may take
PREFILL_TOKENS = 16_384  # read at once: longer batches of prompts are read in parts

# Finished rows leave down to so many.  Where they stay their keys are not read any more: they cost
# their share of products, logits and draw.  On an H200, 1B shape, a token takes 7.7, 4.3, 2.7, 1.57
# and 1.37 ms for 1024, 512, 256, 64 and 16 rows.  From 64 down it is weights and launches, so that
# 32 and 16 would save another 0 to 3 % of a rollout, by calculation, for a capture each.
LEAVE_DOWN_TO = 64

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
        leave: a token costs what the rows cost that still grow (`rows_for`).
        shared_prompt: the completions of a prompt read its keys and values from one of their rows,
            so that they come from the GPU's cache; each row keeps its copy, for when that one
            leaves.
    """

    draw: str = NOISE
    one_attention: bool = False
    early: bool = False
    leave: bool = False  # on a GPU it has not been measured yet
    shared_prompt: bool = False  # nor has this


def rows_for(growing: int, rows: int) -> int:
    """How many of `rows` rows are computed where so many grow: powers of two, and a least number.

    Few sizes, each the half of the one before: every one needs its own graph.
    """
    size = LEAVE_DOWN_TO
    while size < growing:
        size *= 2
    return min(size, rows)

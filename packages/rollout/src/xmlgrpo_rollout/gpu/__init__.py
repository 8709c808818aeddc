"""The `graph` engine on a GPU, and how much of it the engine takes.

`xmlgrpo-plan` counts with the same numbers; importing them imports nothing.
"""

ROWS = 1024  # completions that grow side by side at most
SLOTS_MULTIPLE = 128  # the tokens of a row are rounded up, so that few graphs serve all
MEMORY_SHARE = 0.4  # of the memory that is free: the most that the cache may take
PREFILL_TOKENS = 16_384  # read at once: longer batches of prompts are read in parts

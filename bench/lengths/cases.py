"""Which ways of computing a text are held to plain mathematics, at which lengths, how closely."""

from dataclasses import replace

from bench.lengths.paths import LONGEST, Case
from xmlgrpo_rollout.attention_guard import BLOCK

# A distance is of log-probabilities or relative: see the paths.  What 16 bits lose is at most 0.12
# here (0.086 on an H200), and what torch's fault does to a last token at least 0.3.
LIMITS = {"bfloat16": 0.2, "float32": 2e-3}
ENGINE_LIMIT = 0.05  # of what the engine says of its own draws in bfloat16: 0.015 on an H200
SLOTS = 128  # the engine's caches grow by so many
SHAPES = ("270m-1b", "4b", "12b")
TINY = {"270m-1b": "tiny-1", "4b": "tiny-4", "12b": "tiny-8"}


def limit_of(case: Case) -> float:
    """The largest distance that is no fault."""
    is_engine = case.path == "graph" and case.dtype == "bfloat16"
    return ENGINE_LIMIT if is_engine else LIMITS[case.dtype]


def every_case() -> list[Case]:
    """All that we compute by, with our guard."""
    one = Case("graph")
    return [
        *(case for shape in SHAPES for case in _cases_of(shape)),
        replace(one, adapted=True),
        replace(one, path="generate"),
        replace(one, path="generate", dtype="float32", window=24, adapted=True),
        replace(one, path="aligned-backward", adapted=True),
        replace(one, path="recomputed-backward", adapted=True),
    ]


def unguarded_cases() -> list[Case]:
    """What torch alone makes of it: with the fault, far off at the lengths that it strikes."""
    return [
        Case(path, shape, dtype, cudnn=cudnn, guarded=False)
        for path in ("graph", "forward", "aligned-forward", "backward", "recomputed-backward")
        for shape, dtype, cudnn in (
            ("270m-1b", "bfloat16", False),
            ("270m-1b", "bfloat16", True),
            ("270m-1b", "float32", True),
            ("4b", "bfloat16", False),
        )
    ]


def _cases_of(shape: str) -> list[Case]:
    """Each number type, attention and window, with and without adapter, in half of all products."""
    one = Case("graph", shape)
    ways = [
        one,
        replace(one, window=24, cudnn=True, adapted=True),
        replace(one, window=24, dtype="float32", adapted=True),
        replace(one, dtype="float32", cudnn=True),
    ]
    halves = [way for way in ways if way.dtype == "bfloat16"]
    learning = [way for way in ways if not way.cudnn]  # training switches it off
    return [
        *ways,
        *(replace(way, path="forward") for way in ways),
        *(replace(way, path="aligned-forward") for way in halves),
        *(replace(way, path="backward") for way in learning),
        replace(one, path="aligned-backward"),
        replace(one, path="generate", cudnn=True),
    ]


def lengths_of(case: Case) -> list[int]:
    """Every length where it is quick or torch's fault is near; else both sides of each limit."""
    every = list(range(1, LONGEST + 1))
    is_quick = case.path == "graph" or case.path.endswith("forward")
    if is_quick or (case.shape == "270m-1b" and case.dtype == "bfloat16" and not case.cudnn):
        return every
    return [length for length in every if is_beside_a_limit(length, case)]


def is_beside_a_limit(length: int, case: Case) -> bool:
    """Whether a block of queries, the window or the cache ends here, one before or one after."""
    near = (-1, 0, 1)
    return (
        length == LONGEST
        or length - case.window in near
        or any((length + step) % BLOCK == 0 for step in near)
        or any((length + case.added + step) % SLOTS == 0 for step in near)
    )

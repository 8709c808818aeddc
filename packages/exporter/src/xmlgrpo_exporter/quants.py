"""The quantization types by name: what the pinned llama.cpp writes, and what each may cost.

Names are those of `llama-quantize`, in lower case: q8_0, q5_k_m, q4_k_m, iq4_xs and so on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from xmlgrpo_rewards.errors import UserError, did_you_mean

PINNED = "0.3.36"  # of llama-cpp-python, whose llama.cpp converts, quantizes and checks

# llama_ftype of its llama.h, without the types of mixture-of-experts models and NVFP4
FILE_TYPES = {
    "f32": 0,
    "f16": 1,
    "bf16": 32,
    "q8_0": 7,
    "q6_k": 18,
    "q5_k_m": 17,
    "q5_k_s": 16,
    "q5_1": 9,
    "q5_0": 8,
    "q4_k_m": 15,
    "q4_k_s": 14,
    "q4_1": 3,
    "q4_0": 2,
    "iq4_nl": 25,
    "iq4_xs": 30,
    "q3_k_l": 13,
    "q3_k_m": 12,
    "q3_k_s": 11,
    "iq3_m": 27,
    "iq3_s": 26,
    "iq3_xs": 22,
    "iq3_xxs": 23,
    "q2_k": 10,
    "q2_k_s": 21,
    "iq2_m": 29,
    "iq2_s": 28,
    "iq2_xs": 20,
    "iq2_xxs": 19,
    "iq1_m": 31,
    "iq1_s": 24,
    "tq2_0": 37,
    "tq1_0": 36,
}

CONVERTER_TYPES = ("f32", "f16", "bf16")  # written by the converter itself, without quantizing

# llama-quant.cpp refuses these without an importance matrix (`tensor_requires_imatrix`), or lets
# some of their tensors fall to a type that needs one.
NEEDS_IMATRIX = frozenset(
    {"iq1_m", "iq1_s", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq3_xs", "iq3_xxs", "q2_k_s"}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far another form of a model may be from it, over the positions of the replies."""

    mean_kl: float  # largest mean Kullback-Leibler divergence, model to form, in nats per token
    top1: float  # smallest share of positions where both would say the same token
    greedy_identical: float  # smallest share of greedy replies that are the same to the token


# Set by what a fine-tuned Gemma 3 270M showed (docs/measured/README.md has the table): mean KL
# 0.00002 for bf16, 0.002 for q8_0, 0.006 for q6_k, 0.025 for q5_k_m, 0.040 for q4_k_m.  A 16-bit
# file is a copy: what differs is rounding.  Two long greedy replies part at the first close call,
# for a right q8_0 about once in 80 tokens: few need be identical, below eight bits none.
COPY = Limits(mean_kl=0.0005, top1=0.99, greedy_identical=0.75)
FIVE_BITS = Limits(mean_kl=0.08, top1=0.86, greedy_identical=0.0)
FEWER_BITS = Limits(mean_kl=0.12, top1=0.84, greedy_identical=0.0)
OWN_LIMITS = {
    **dict.fromkeys(CONVERTER_TYPES, COPY),
    "q8_0": Limits(mean_kl=0.01, top1=0.96, greedy_identical=0.125),
    "q6_k": Limits(mean_kl=0.03, top1=0.92, greedy_identical=0.0),
    **dict.fromkeys(("q5_k_m", "q5_k_s", "q5_1", "q5_0"), FIVE_BITS),
}

# Of a merge: rounding is all that may differ.  In float32 that is the last bit of a sum.
MERGE_LIMITS = {
    "float32": Limits(mean_kl=1e-5, top1=0.995, greedy_identical=0.9),
    "bfloat16": Limits(mean_kl=5e-3, top1=0.98, greedy_identical=0.6),
    "float16": Limits(mean_kl=1e-3, top1=0.99, greedy_identical=0.75),
}


def limits_for(quant: str, given: Mapping[str, float]) -> Limits:
    """The limits of a type, of the smallest ones where it is not known, but for those given."""
    return replace(OWN_LIMITS.get(quant, FEWER_BITS), **given)


def parse_quants(words: Iterable[str], *, with_imatrix: bool = False) -> tuple[str, ...]:
    """Read names of types, separated by spaces or commas, in any case; duplicates count once.

    Raises:
        UserError: no name at all, one that is not known, or one of so few bits that it needs an
            importance matrix, and none is made.
    """
    names = [name.lower() for word in words for name in word.replace(",", " ").split()]
    if not names:
        raise UserError('expected quantization types, as in QUANTS="q8_0 q4_k_m"; got none')
    for name in names:
        if name not in FILE_TYPES:
            near = did_you_mean(name, FILE_TYPES)
            raise UserError(
                f"unknown quantization type {name!r}{near}; known: {', '.join(FILE_TYPES)}"
            )
    if not with_imatrix and (blind := NEEDS_IMATRIX.intersection(names)):
        raise UserError(
            f"{', '.join(sorted(blind))}: llama.cpp does not quantize to so few bits without an "
            "importance matrix; add --imatrix, or take q3_k_m or more"
        )
    return tuple(dict.fromkeys(names))


def quant_of(file_type: int | None) -> str:
    """The name of a GGUF's `general.file_type`; "unknown" when it is missing or not known."""
    return next((name for name, number in FILE_TYPES.items() if number == file_type), "unknown")


def estimated_bytes(quant: str, parameters: int) -> int:
    """Bytes of a file of this type, on the high side.

    Every type below 16 bits counts as 8.5 bits: rows that are no multiple of 256 fall back to q8_0
    (measured: "q4_k_m" of the 270M shape is 7.4 bits per weight).
    """
    bits = {"f32": 32.0, "f16": 16.0, "bf16": 16.0}.get(quant, 8.5)
    return int(parameters * bits / 8)

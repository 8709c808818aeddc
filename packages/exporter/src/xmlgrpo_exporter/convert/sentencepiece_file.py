"""Write `tokenizer.model` from `tokenizer.json`, for tokenizers of Gemma's form.

transformers 5 saves only `tokenizer.json`; llama.cpp's converter reads Gemma's vocabulary from
`tokenizer.model` and fails without one.  Both hold the same byte-pair encoding: `tokenizer.json` as
an ordered list of merges, `tokenizer.model` as a score a piece, where the higher score merges
first.  A piece's score is therefore minus the rank of its first merge.

Whether the result splits text as the tokenizer does is not believed but checked: the gate "tokens"
compares ids on real prompts.
"""

from typing import Any

# SentencePiece's ModelProto (sentencepiece_model.proto): types of a piece
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

BPE = 2  # TrainerSpec.ModelType


def is_gemma_form(tokenizer: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is byte-pair encoding over characters with bytes to fall back on.

    Byte-level vocabularies (GPT-2's, Llama 3's, Qwen's) are another kind, which the converter reads
    from `tokenizer.json` itself.
    """
    model = tokenizer.get("model", {})
    return bool(model.get("type") == "BPE" and model.get("byte_fallback") and model.get("merges"))


def sentencepiece_model(tokenizer: dict[str, Any]) -> bytes:
    """The bytes of a `tokenizer.model` that splits text as this `tokenizer.json` does.

    Args:
        tokenizer: the parsed file; `is_gemma_form` holds.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    model = tokenizer["model"]
    scores = _scores(model["merges"])
    added = {token["content"]: token for token in tokenizer.get("added_tokens", [])}
    vocabulary = {**model["vocab"], **{name: token["id"] for name, token in added.items()}}
    for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
        kind = _kind(piece, model.get("unk_token"), added)
        score = scores.get(piece, float(-len(scores) - 1)) if kind == NORMAL else 0.0
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.trainer_spec.unk_id = vocabulary.get(model.get("unk_token"), 0)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return bytes(proto.SerializeToString())


def _scores(merges: list[Any]) -> dict[str, float]:
    """Piece -> minus the rank of the first merge that makes it."""
    scores: dict[str, float] = {}
    for merge in merges:
        left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
        scores.setdefault(left + right, float(-len(scores)))
    return scores


def _kind(piece: str, unknown: str | None, added: dict[str, dict[str, Any]]) -> int:
    if piece == unknown:
        return UNKNOWN
    if piece in added:
        return CONTROL if added[piece].get("special") else USER_DEFINED
    is_byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
    return BYTE if is_byte else NORMAL

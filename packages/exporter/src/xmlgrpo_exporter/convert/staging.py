"""The folder that the converter reads: the model's own files, the tokenizer's completed.

What transformers 5 saves makes the converter fail, or worse: with `tokenizer.model` copied in but
without `added_tokens_decoder` it converts without a word and writes `<start_of_turn>` as ordinary
text; every chat prompt is then split wrongly (measured: 2638 of 2638).

Gemma's vocabulary is read from `tokenizer.model`, which is written here where it is missing.  It
holds the byte-pair encoding of `tokenizer.json`: there an ordered list of merges, here a score per
piece, where the higher score merges first, so minus the rank of its first merge.  Whether that
splits text as the tokenizer does is not believed but checked, by the gate "tokens".
"""

import json
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json, replacing, write_text

SETTINGS = "tokenizer_config.json"
SKIPPED = (".gguf", ".bin", ".pt", ".pth")

# SentencePiece's ModelProto (sentencepiece_model.proto): types of a piece
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
BPE = 2  # TrainerSpec.ModelType


def check_model_folder(folder: Path) -> None:
    """See that a folder can be converted: 16-bit weights in safetensors, and a tokenizer."""
    if read_json(folder / "config.json").get("quantization_config"):
        raise UserError(
            f"{folder} holds quantized weights; a GGUF of them would add a second rounding. Give "
            "the 16-bit model"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors file; give a merged model (not an adapter)")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{folder} has no tokenizer.json, the tokenizer that the GGUF is compared with; save "
            "it there with AutoTokenizer(...).save_pretrained"
        )


def stage(model: Path, staged: Path, *, prompts_have_bos: bool) -> Path:
    """Make a folder that the converter understands: links to the files, a completed tokenizer.

    Args:
        model: a folder that `check_model_folder` accepts; not changed.
        prompts_have_bos: whether the model's own prompts start with BOS, and so a text without
            one must be given it.
    """
    staged.mkdir()
    for path in model.iterdir():
        if path.is_file() and path.name != SETTINGS and path.suffix not in SKIPPED:
            (staged / path.name).symlink_to(path.absolute())
    tokenizer = read_json(model / "tokenizer.json")
    if not (staged / "tokenizer.model").exists() and is_gemma_form(tokenizer):
        with replacing(staged / "tokenizer.model") as unfinished:
            unfinished.write_bytes(sentencepiece_model(tokenizer))
    settings = read_json(model / SETTINGS) if (model / SETTINGS).is_file() else {}
    completed = complete_settings(settings, tokenizer) | {"add_bos_token": prompts_have_bos}
    # somebody's settings may hold Infinity, which JSON of ours may not
    write_text(staged / SETTINGS, json.dumps(completed, ensure_ascii=False))
    return staged


def complete_settings(settings: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """`tokenizer_config.json` with the added tokens of `tokenizer.json`, as older saves had it."""
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer.get("added_tokens", [])
    }
    stored = settings.get("added_tokens_decoder", {})
    return {**settings, "added_tokens_decoder": {**added, **stored}}


def is_gemma_form(tokenizer: dict[str, Any]) -> bool:
    """Whether a `tokenizer.json` is byte-pair encoding over characters with bytes to fall back on.

    Byte-level vocabularies (GPT-2's, Llama 3's, Qwen's) are another kind, which the converter reads
    from `tokenizer.json` itself.
    """
    model = tokenizer.get("model", {})
    return bool(model.get("type") == "BPE" and model.get("byte_fallback") and model.get("merges"))


def sentencepiece_model(tokenizer: dict[str, Any]) -> bytes:
    """The bytes of a `tokenizer.model` that splits text as this one of `is_gemma_form` does."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    model = tokenizer["model"]
    unknown = model.get("unk_token")
    scores: dict[str, float] = {}
    for merge in model["merges"]:
        left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
        scores.setdefault(left + right, float(-len(scores)))
    added = {token["content"]: token for token in tokenizer.get("added_tokens", [])}
    vocabulary = {**model["vocab"], **{name: token["id"] for name, token in added.items()}}
    for piece in sorted(vocabulary, key=lambda piece: vocabulary[piece]):
        kind = UNKNOWN if piece == unknown else _kind(piece, added)
        score = scores.get(piece, float(-len(scores) - 1)) if kind == NORMAL else 0.0
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.trainer_spec.unk_id = vocabulary.get(unknown, 0)
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    proto.normalizer_spec.escape_whitespaces = True
    return bytes(proto.SerializeToString())


def _kind(piece: str, added: dict[str, dict[str, Any]]) -> int:
    if piece in added:
        return CONTROL if added[piece].get("special") else USER_DEFINED
    is_byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
    return BYTE if is_byte else NORMAL

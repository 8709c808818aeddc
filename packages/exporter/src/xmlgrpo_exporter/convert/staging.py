"""The folder that the converter reads: the model's own files, the tokenizer's completed.

What transformers 5 saves makes the converter fail, or worse: with `tokenizer.model` copied in but
without `added_tokens_decoder` it converts without a word and writes `<start_of_turn>` as ordinary
text; every chat prompt is then split wrongly (measured: 2638 of 2638).
"""

import json
from pathlib import Path
from typing import Any

from xmlgrpo_exporter.convert.sentencepiece_file import is_gemma_form, sentencepiece_model
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.files import read_json

COMPLETED = "tokenizer_config.json"
SKIPPED = (".gguf", ".bin", ".pt", ".pth")


def check_model_folder(folder: Path) -> dict[str, Any]:
    """The configuration of a folder that can be converted.

    Raises:
        UserError: config, safetensors or tokenizer.json are missing, or the weights are quantized.
    """
    config = read_json(folder / "config.json")
    if config.get("quantization_config"):
        raise UserError(
            f"{folder} holds quantized weights; a GGUF of them would add a second rounding. Give "
            "the 16-bit model"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors file; give a merged model (not an adapter)")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"{folder} has no tokenizer.json, the tokenizer that the GGUF is held against; save "
            "it there with AutoTokenizer(...).save_pretrained"
        )
    return config


def stage(model: Path, work: Path, *, prompts_bring_bos: bool) -> Path:
    """Make a folder the converter understands: links to the files, a completed tokenizer.

    Args:
        model: a folder that `check_model_folder` accepts; not changed.
        work: an empty folder to fill.
        prompts_bring_bos: whether the model's own prompts start with BOS.  Then text that comes
            without one must be given it, else it must not: said in the file, not left to what a
            reader takes for granted.
    """
    for path in model.iterdir():
        if path.is_file() and path.name != COMPLETED and path.suffix not in SKIPPED:
            (work / path.name).symlink_to(path.absolute())
    tokenizer = read_json(model / "tokenizer.json")
    if not (work / "tokenizer.model").exists() and is_gemma_form(tokenizer):
        (work / "tokenizer.model").write_bytes(sentencepiece_model(tokenizer))
    settings = model / "tokenizer_config.json"
    completed = complete_settings(read_json(settings) if settings.is_file() else {}, tokenizer)
    completed["add_bos_token"] = prompts_bring_bos
    (work / "tokenizer_config.json").write_text(
        json.dumps(completed, ensure_ascii=False), encoding="utf-8"
    )
    return work


def complete_settings(settings: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """`tokenizer_config.json` with the added tokens of `tokenizer.json`, as older saves had them.

    What the file already says of a token is kept.
    """
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer.get("added_tokens", [])
    }
    return {
        **settings,
        "added_tokens_decoder": {**added, **settings.get("added_tokens_decoder", {})},
    }

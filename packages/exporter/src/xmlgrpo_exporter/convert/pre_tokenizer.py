"""How a byte-level vocabulary cuts text before it merges bytes, in llama.cpp's words.

A GGUF names that, and the converter knows models by the ids that one text gives: by their published
vocabularies.  A vocabulary that was cut, grown or trained anew has other ids and is refused, though
it cuts text as the family does.  So what the converter does not know is read from `tokenizer.json`;
the gate "tokens" checks that the file splits text as the tokenizer does.

    python -m xmlgrpo_exporter.convert.pre_tokenizer KIND SCRIPT ARGUMENTS...   # the converter's
"""

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Llama 3's and Qwen2's differ in how many digits stand together
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
    r" ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITS = {
    _WORDS.format(digits=r"\p{N}{1,3}"): "llama-bpe",
    _WORDS.format(digits=r"\p{N}"): "qwen2",
}
GPT_2, SMOLLM = "gpt-2", "smollm"


def split_kind(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the cuts that a `tokenizer.json` makes; None for others than these."""
    outer = tokenizer.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    *first, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space") or len(first) > 1:
        return None
    if not first:
        return GPT_2 if last.get("use_regex", True) else None
    [step] = first
    if step.get("type") == "Digits":
        cuts = step.get("individual_digits") and last.get("use_regex", True)
        return SMOLLM if cuts else None
    if step.get("type") != "Split" or step.get("behavior") != "Isolated" or step.get("invert"):
        return None
    return None if last.get("use_regex", True) else SPLITS.get(step["pattern"].get("Regex"))


def convert_as(kind: str, script: str, arguments: list[str]) -> None:
    """Run the converter; a vocabulary that it does not know is of this kind."""
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    converter = runpy.run_path(script, run_name="converter")
    from conversion.base import TextModel  # type: ignore[import-not-found]  # beside the script

    known = TextModel.get_vocab_base_pre

    def named(model: Any, tokenizer: Any) -> Any:
        try:
            return known(model, tokenizer)
        except NotImplementedError:
            return kind

    TextModel.get_vocab_base_pre = named
    converter["main"]()


if __name__ == "__main__":
    convert_as(sys.argv[1], sys.argv[2], sys.argv[3:])

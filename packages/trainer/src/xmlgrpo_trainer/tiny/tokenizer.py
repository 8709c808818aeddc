"""A tokenizer in Gemma's form, trained on the spot.

SentencePiece BPE with byte fallback, single digits, Gemma's special tokens and chat template.  Its
`tokenizer.model` is kept beside `tokenizer.json`: the GGUF converter reads the former, everything
else the latter.

Departure from Gemma: a piece may mix letters and punctuation (`split_by_unicode_script` off), so
that each of the four tags becomes one piece of a vocabulary this small.
"""

import io
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import sentencepiece
from transformers import GemmaTokenizer, PreTrainedTokenizerBase

from xmlgrpo_rewards.prose import without_notes

PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
TURN_START, TURN_END = "<start_of_turn>", "<end_of_turn>"
ROLES = ("user", "model")  # in the prompt, but not in any text the tokenizer is trained on


def train_tokenizer(folder: Path, texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train on `texts` and write the tokenizer's files into `folder`.

    Args:
        folder: must hold no tokenizer yet: a `tokenizer.json` would win over the new model.
        texts: what to learn pieces from; a newline is never part of a piece.
        vocab_size: pieces, special tokens and the 256 bytes included.

    Returns:
        The tokenizer, padding on the left, as loaded from `folder`.
    """
    model_bytes = io.BytesIO()
    lines = [line for text in texts for line in text.split("\n") if line]
    repeated_roles = list(ROLES) * (len(lines) // 10)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines + repeated_roles),
        model_writer=model_bytes,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        split_digits=True,
        split_by_unicode_script=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        allow_whitespace_only_pieces=True,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece=PAD,
        eos_piece=EOS,
        bos_piece=BOS,
        unk_piece=UNK,
        user_defined_symbols=["<mask>", TURN_START, TURN_END],
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model_bytes.getvalue())
    tokenizer = GemmaTokenizer.from_pretrained(folder)
    tokenizer.chat_template = chat_template()
    tokenizer.save_pretrained(folder)
    _mark_turns_special(folder / "tokenizer.json")
    settings = folder / "tokenizer_config.json"
    known = without_notes(json.loads(settings.read_text(encoding="utf-8")))
    text = json.dumps(known, ensure_ascii=False, indent=2) + "\n"
    settings.write_text(text, encoding="utf-8")
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, padding on the left."""
    tokenizer: PreTrainedTokenizerBase = GemmaTokenizer.from_pretrained(folder, padding_side="left")
    return tokenizer


def chat_template() -> str:
    """Gemma's chat template for text: the system message opens the first user turn."""
    return (files(__package__) / "chat_template.jinja").read_text(encoding="utf-8")


def _mark_turns_special(path: Path) -> None:
    """Have `skip_special_tokens` drop the turn tokens, as it does with Gemma's own tokenizer.

    transformers reads SentencePiece's user symbols as ordinary text; `<end_of_turn>` would then
    stand after `</answer>` in every completion that the rewards see.
    """
    description = json.loads(path.read_text(encoding="utf-8"))
    for token in description["added_tokens"]:
        if token["content"] in (TURN_START, TURN_END):
            token["special"] = True
    path.write_text(json.dumps(description, ensure_ascii=False, indent=1), encoding="utf-8")

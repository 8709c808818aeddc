"""How a byte-level vocabulary cuts text, read from tokenizer.json for the converter."""

import sys

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from xmlgrpo_exporter.convert.pre_tokenizer import SPLITS, convert_as, split_kind
from xmlgrpo_run.files import read_json

WORDS = {kind: words for words, kind in SPLITS.items()}


def cut(words, **settings):
    split = pre_tokenizers.Split(Regex(words), behavior="isolated")
    settings = {"add_prefix_space": False, "use_regex": False} | settings
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**settings)])


def digits(*, individual):
    single = pre_tokenizers.Digits(individual_digits=individual)
    return pre_tokenizers.Sequence([single, pre_tokenizers.ByteLevel(add_prefix_space=False)])


@pytest.mark.parametrize(
    ("cuts", "kind"),
    [
        pytest.param(cut(WORDS["llama-bpe"]), "llama-bpe", id="llama-3"),
        pytest.param(cut(WORDS["qwen2"]), "qwen2", id="qwen"),
        pytest.param(digits(individual=True), "smollm", id="smollm-2"),
        pytest.param(pre_tokenizers.ByteLevel(add_prefix_space=False), "gpt-2", id="gpt-2"),
        pytest.param(digits(individual=False), None, id="numbers-whole"),
        pytest.param(cut(r"\d+"), None, id="other-words"),
        pytest.param(cut(WORDS["qwen2"], use_regex=True), None, id="cut-twice"),
        pytest.param(cut(WORDS["qwen2"], add_prefix_space=True), None, id="a-space-before"),
        pytest.param(pre_tokenizers.Metaspace(), None, id="spaces-as-letters"),
        pytest.param(None, None, id="none"),
    ],
)
def test_the_kind_is_read(cuts, kind, tmp_path):
    tokenizer = Tokenizer(models.BPE())
    if cuts is not None:
        tokenizer.pre_tokenizer = cuts
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert split_kind(read_json(tmp_path / "tokenizer.json")) == kind


@pytest.mark.parametrize(("known", "named"), [("llama-bpe", "llama-bpe"), (None, "qwen2")])
def test_what_the_converter_knows_it_names_itself(known, named, tmp_path, monkeypatch, capsys):
    conversion = tmp_path / "conversion"
    conversion.mkdir()
    (conversion / "__init__.py").write_text("")
    answer = f"return {known!r}" if known else "raise NotImplementedError"
    (conversion / "base.py").write_text(
        f"class TextModel:\n    def get_vocab_base_pre(self, tokenizer):\n        {answer}\n"
    )
    (tmp_path / "convert.py").write_text(
        "import sys\nfrom conversion.base import TextModel\n"
        "def main():\n    print(TextModel().get_vocab_base_pre(None), sys.argv[1:])\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["before"])
    try:
        convert_as("qwen2", str(tmp_path / "convert.py"), ["a", "b"])
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "conversion"]:
            del sys.modules[name]
    assert capsys.readouterr().out == f"{named} ['a', 'b']\n"

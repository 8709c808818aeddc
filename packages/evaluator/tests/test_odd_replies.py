"""A model that answers nothing, repeats itself without end, or writes bytes that are no text."""

import pytest

from xmlgrpo_evaluator.results.result import read_result

from .conftest import command, write_rows
from .tiny_model import export_gguf, rows, teach, worked

pytestmark = [
    pytest.mark.slow,
    # lm-eval and datasets leave files open and use what newer libraries deprecate
    pytest.mark.filterwarnings("default"),
]
LIMIT = 48
NOTHING, ENDLESS, NO_TEXT, RIGHT = range(4)


@pytest.fixture(scope="module")
def odd(tiny, tmp_path_factory):
    """The tiny model, taught to answer three of four questions badly; and those questions."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("odd") / "odd"
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    model = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    asked = rows(4)
    five = tokenizer.encode("5", add_special_tokens=False)
    no_text = tokenizer.convert_tokens_to_ids(["<0xFF>", "<0xE2>", "<0x82>"])
    said = {
        NOTHING: [],
        ENDLESS: five * (LIMIT + 8),
        NO_TEXT: no_text * 2,
        RIGHT: worked(asked[RIGHT]),
    }
    teach(model, tokenizer, [(asked[n]["question"], said[n]) for n in said])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes((tiny.base / "tokenizer.model").read_bytes())
    return folder, write_rows(folder.parent / "items.jsonl", asked)


def scores(model, items, out, capsys):
    words = ("--data", items, "--out", out, "--max-new-tokens", LIMIT)
    command("run", "--model", model, *words)
    [task] = read_result(out)["tasks"].values()
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[00")]
    assert len(shown) == 4
    return task["items"]


def judge(items):
    nothing, endless, no_text, right = (item["scores"] for item in items)
    assert (nothing["no_answer"], nothing["reply_tokens"], nothing["truncated"]) == (1, 1, 0)
    assert items[NOTHING]["replies"] == [""]
    assert (endless["truncated"], endless["reply_tokens"], endless["strict_format"]) == (
        1,
        LIMIT,
        0,
    )
    assert items[ENDLESS]["replies"] == ["5" * LIMIT]
    assert (no_text["no_answer"], no_text["strict_accuracy"], no_text["truncated"]) == (1, 0, 0)
    assert "\ufffd" in items[NO_TEXT]["replies"][0]
    assert right["strict_accuracy"] == 1


def test_transformers(odd, tmp_path, capsys):
    model, items = odd
    judge(scores(model, items, tmp_path / "hf.json", capsys))


@pytest.mark.gguf
def test_gguf(odd, tmp_path, capsys):
    model, items = odd
    gguf = export_gguf(model, tmp_path / "gguf")
    judge(scores(gguf, items, tmp_path / "gguf.json", capsys))

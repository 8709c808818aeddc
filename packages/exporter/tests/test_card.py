"""The card: its numbers come from published files, and change when those do."""

import ast
import json
import re
import shlex

import pytest

from xmlgrpo_exporter.card import number_format
from xmlgrpo_exporter.card.card import QUESTION
from xmlgrpo_exporter.card.figures import (
    Figure,
    Missing,
    Name,
    ResultFile,
    UnsourcedNumberError,
    Words,
    markdown,
    numbers_without_source,
)

from . import run_folders
from .cards import prepared, write_evaluation
from .run_folders import share, write_json
from .tracing import linked_numbers, untraced


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "gsm8k-1b")
    write_evaluation(run)
    return run


class Capitals:
    """A task whose words are its own, in a language of its own."""

    def __init__(self, system: str) -> None:
        self.system = system

    def messages(self, question: str) -> list[dict[str, str]]:
        told = [{"role": "system", "content": self.system}] if self.system else []
        return [*told, {"role": "user", "content": f"问题：{question} 🦙"}]


@pytest.mark.parametrize(
    "system",
    [
        pytest.param('Say "why", then\nname <answer> it\'s the capital.', id="own-system-prompt"),
        pytest.param("", id="no-system-prompt"),
    ],
)
def test_the_card_asks_as_the_runs_task_does(run, monkeypatch, system):
    task = Capitals(system)
    monkeypatch.setattr("xmlgrpo_rewards.task.get_task", lambda name: {"capitals": task}[name])
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", {**manifest, "task": "capitals"})
    card = prepared(run).card
    literals = re.findall(r"^chat = (\[.*?^\])$", card, re.DOTALL | re.MULTILINE)
    assert [ast.literal_eval(literal) for literal in literals] == 2 * [task.messages(QUESTION)]
    assert ("with this system prompt" in card) is bool(system)
    line = re.search(r"^llama-cli -m .*?(?=^```)", card, re.DOTALL | re.MULTILINE)[0]
    assert shlex.split(line)[3:] == ["--temp", "0", *(["-sys", system] if system else [])]


def test_every_number_on_the_card_is_the_number_in_its_file(run):
    """Follows each link by hand: the published bytes, the pointer, the value, the rounding."""
    result = prepared(run)
    published = {file.target: file.read() for file in result.plan.files}
    assert len(linked_numbers(result.card)) > 50
    assert untraced(result.card, published) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("61.8% (", "61.9% (", id="a-share"),
        pytest.param("(56.9 to", "(57.0 to", id="an-end-of-its-interval"),
        pytest.param("of 400]", "of 401]", id="a-total"),
        pytest.param("/after/strict_accuracy", "/before/strict_accuracy", id="another-place"),
        pytest.param("results/ladder.json#", "results/manifest.json#", id="another-file"),
        pytest.param("## Training\n", "## Training\n\nIt won 99 times.\n", id="a-loose-number"),
        pytest.param("`torch==2.13.0`", "`torch==2.14.0`", id="a-version"),
        pytest.param("[977 B]", "[978 B]", id="a-size"),
    ],
)
def test_the_reader_of_cards_sees_a_false_number(run, old, new):
    result = prepared(run)
    published = {file.target: file.read() for file in result.plan.files}
    assert old in result.card
    with_error = result.card.replace(old, new, 1)
    assert len(untraced(with_error, published)) >= 1


def test_a_changed_result_changes_the_card(run):
    assert "61.8% (56.9 to 66.4) of 400" in prepared(run).card  # 247 of 400
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["holdout"]["after"]["strict_accuracy"] = share(100, 400)
    write_json(run / "manifest.json", manifest)
    card = prepared(run).card
    assert "61.8%" not in card
    assert "25.0% (21.0 to 29.5) of 400" in card


def test_the_paired_result_stands_on_the_card(run):
    card = prepared(run).card
    row = next(line for line in card.splitlines() if line.startswith("| `strict_accuracy` |"))
    texts = [text for text, _, _ in linked_numbers(row)]
    assert texts == [
        "22.7% (20.6 to 25.1) of 1,319",
        "60.7% (58.0 to 63.3) of 1,319",
        "+37.9 (+35.0 to +41.0) points",
        "1.2e-30",
        "510",
        "10",
    ]


def test_the_ladder_and_the_gates_stand_on_the_card(run):
    card = prepared(run).card
    row = next(line for line in card.splitlines() if line.startswith("| `gsm8k-1b-q8_0` |"))
    assert [text for text, _, _ in linked_numbers(row)] == [
        "63.0% (53.2 to 71.8) of 100",
        "-1.0 (-5.0 to +3.0) points",
        "0.625",
        "224 B",
        "8.5",
        "165.16",
        "724.9",
        "passed",
    ]
    row = next(line for line in card.splitlines() if "| `gsm8k-1b-q8_0.gguf` | distance |" in line)
    assert [text for text, _, _ in linked_numbers(row)] == ["3.1e-07", "0.002", "passed"]


def test_rungs_of_files_that_are_not_published_are_not_shown(run):
    (run / "ladder.png").write_bytes(b"\x89PNG\r\n\x1a\n ladder")
    assert "ladder.png" in prepared(run).card.partition("## Files")[0]
    (run / "gguf/gsm8k-1b-q4_k_m.gguf").unlink()
    card = prepared(run).card.partition("## Files")[0]
    assert "| `gsm8k-1b-q8_0` | `merged` | yes |" in card
    assert "| `gsm8k-1b-q4_k_m` |" not in card
    assert "ladder.png" not in card, "the plot would show it"
    card = prepared(run, "gguf").card
    assert "| `merged` | `tuned` | no |" in card, "what the file was made of is its measure"


@pytest.mark.parametrize(
    "value",
    [0.618, 61, "61.8%", "sixty", True, None, {"hits": 1}, Figure],
    ids=repr,
)
def test_a_value_without_a_file_cannot_be_printed(value):
    with pytest.raises(UnsourcedNumberError):
        markdown(value)


@pytest.mark.parametrize("text", ["61", "0.618", "-3", "1,319", "5e-06"])
def test_a_number_is_no_name_and_no_words(text):
    with pytest.raises(UnsourcedNumberError):
        Name(text)
    with pytest.raises(UnsourcedNumberError):
        Words(f"right: {text}")


@pytest.mark.parametrize(
    ("prose", "loose"),
    [
        ("right 61.8% of the time", ["61.8"]),
        ("| strict | 0.62 |", ["0.62"]),
        ("gained 500 items, p = 3e-9", ["500", "3e-9"]),
        ("difference of −3.5 points", ["−3.5"]),
        ("[61.8%](results/a.json#/x) of [1,319](results/a.json#/n)", []),
        ("a [64](x.json) and 65", ["65"]),
        ("`google/gemma-3-1b-it` with `q4_k_m`", []),
        ("```python\nmax_new_tokens=512\n```\nand 7", ["7"]),
        ("![curve 1](curves.png)", []),
    ],
)
def test_loose_numbers_are_found_in_the_finished_text(prose, loose):
    assert numbers_without_source(prose) == loose


def test_a_number_that_slips_through_stops_the_card(run, monkeypatch):
    """As if somebody wrote a result into the template."""
    from xmlgrpo_exporter.card import card as card_module

    monkeypatch.setattr(card_module, "GEMMA_TERMS", "https://x.example) 61.8% right")
    with pytest.raises(UnsourcedNumberError, match=r"61\.8"):
        prepared(run)


def test_a_figure_keeps_its_place():
    file = ResultFile("results/a b.json", {"x/y": {"n (all)": 3}, "rows": [{"v": 0.5}]})
    assert markdown(file.figure("/x~1y/n (all)", number_format.count)) == (
        "[3](results/a%20b.json#/x~1y/n%20%28all%29)"
    )
    assert (
        markdown(file.figure("/rows/0/v", number_format.plain))
        == "[0.5](results/a%20b.json#/rows/0/v)"
    )
    assert file.figure("/rows/7/v", number_format.plain) == Missing()


def test_the_same_run_makes_the_same_card(run):
    assert prepared(run).plan.digest == prepared(run).plan.digest

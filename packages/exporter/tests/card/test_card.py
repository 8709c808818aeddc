"""The card: its numbers come from published files, and change when those do."""

import ast
import json
import re
import shlex
from collections.abc import Iterator, Mapping

import pytest
import yaml

from tracing import linked_numbers, untraced
from xmlgrpo_exporter.card.card import QUESTION, TEMPLATES, LooseNumberError
from xmlgrpo_exporter.card.numbers import code, count, loose_numbers, number, setting
from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_rewards.prose import printable
from xmlgrpo_rewards.reply import SYSTEM
from xmlgrpo_rewards.task import Example, Words
from xmlgrpo_run.digests import file_sha256

from .. import run_folders
from ..cards import card_of, published, write_evaluation
from ..run_folders import share, write_json


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
    card = card_of(run)
    literals = re.findall(r"^chat = (\[.*?^\])$", card, re.DOTALL | re.MULTILINE)
    assert [ast.literal_eval(literal) for literal in literals] == 2 * [task.messages(QUESTION)]
    assert ("with this system prompt" in card) is bool(system)
    line = re.search(r"^llama-cli -m .*?(?=^```)", card, re.DOTALL | re.MULTILINE)
    assert line is not None
    assert shlex.split(line[0])[3:] == ["--temp", "0", *(["-sys", system] if system else [])]


class MadeCapitals(Capitals):
    """The same, with rows of its own making."""

    name = "capitals"
    words = Words(answer="capital")

    def generated(self, _count: int, _seed: int, /) -> Iterator[dict[str, str]]:
        yield {"of": "Peru"}

    def example(self, row: Mapping[str, str], row_id: str, /) -> Example:
        return Example(row_id, f"The capital of {row['of']}?", "Lima", "")


def test_the_card_shows_how_a_question_reads_where_the_task_makes_some(run, monkeypatch):
    monkeypatch.setattr("xmlgrpo_rewards.task.get_task", lambda _name: MadeCapitals(""))
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", {**manifest, "task": "capitals"})
    card = card_of(run)
    assert "this one is made up:\n\n```text\n问题：The capital of Peru? 🦙\n```\n" in card
    assert card.count("The capital of Peru?") == 3  # in both programs, too
    assert QUESTION not in card


NO_SYSTEM_ROLE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "roles"),
    [
        pytest.param(NO_SYSTEM_ROLE, ["user"], id="instructions-in-the-users-turn"),
        pytest.param(
            NO_SYSTEM_ROLE.replace("== 'user'", "!= ''"), ["system", "user"], id="as-it-is"
        ),
        pytest.param("{% if %}", ["system", "user"], id="no-template"),
    ],
)
def test_the_card_asks_in_the_form_that_the_template_can_write(run, template, roles):
    (run / "adapter" / "chat_template.jinja").write_text(template)
    card = card_of(run)
    literals = re.findall(r"^chat = (\[.*?^\])$", card, re.DOTALL | re.MULTILINE)
    for chat in map(ast.literal_eval, literals):
        assert [message["role"] for message in chat] == roles
        told = "".join(message["content"] for message in chat)
        assert told.count(SYSTEM) == told.count(QUESTION) == 1
    assert literals
    assert ("-sys" in card) is ("system" in roles)


def test_every_number_on_the_card_is_the_number_in_its_file(run):
    """Follows each link by hand: the published bytes, the pointer, the value, the rounding."""
    card = card_of(run)
    assert len(linked_numbers(card)) > 50
    assert untraced(card, published(run)) == []


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
        pytest.param("[977 bytes]", "[978 bytes]", id="a-size"),
    ],
)
def test_the_reader_of_cards_sees_a_false_number(run, old, new):
    card = card_of(run)
    assert old in card
    assert len(untraced(card.replace(old, new, 1), published(run))) >= 1


def test_a_changed_result_changes_the_card(run):
    assert "61.8% (56.9 to 66.4) of 400" in card_of(run)  # 247 of 400
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["holdout"]["after"]["strict_accuracy"] = share(100, 400)
    write_json(run / "manifest.json", manifest)
    card = card_of(run)
    assert "61.8%" not in card
    assert "25.0% (21.0 to 29.5) of 400" in card


def test_the_paired_result_stands_on_the_card(run):
    card = card_of(run)
    row = next(line for line in card.splitlines() if line.startswith("| `strict_accuracy` |"))
    texts = [text for text, _, _ in linked_numbers(row)]
    assert texts == [
        "22.7% (20.6 to 25.1) of 1,319",
        "60.7% (58.0 to 63.3) of 1,319",
        "+37.9 (+35.1 to +40.6) points",
        "2.2e-136",
        "510",
        "10",
    ]


def test_the_ladder_and_the_gates_stand_on_the_card(run):
    card = card_of(run)
    row = next(line for line in card.splitlines() if line.startswith("| `gsm8k-1b-q8_0` |"))
    assert [text for text, _, _ in linked_numbers(row)] == [
        "63.0% (53.2 to 71.8) of 100",
        "-1.0 (-5.0 to +3.0) points",
        "0.625",
        "224 bytes",
        "8.5",
        "165.16",
        "724.9",
        "passed",
    ]
    row = next(line for line in card.splitlines() if "| `gsm8k-1b-q8_0.gguf` | distance |" in line)
    assert [text for text, _, _ in linked_numbers(row)] == ["3.1e-07", "0.01", "passed"]


def test_rungs_of_files_that_are_not_published_are_not_shown(run):
    (run / "ladder.png").write_bytes(b"\x89PNG\r\n\x1a\n ladder")
    ladder = json.loads((run / "ladder.json").read_text())
    write_json(run / "ladder.json", ladder | {"plot_sha256": file_sha256(run / "ladder.png")})
    assert "ladder.png" in card_of(run).partition("## Files")[0]
    (run / "gguf/gsm8k-1b-q4_k_m.gguf").unlink()
    card = card_of(run).partition("## Files")[0]
    assert "| `gsm8k-1b-q8_0` | `merged` | yes |" in card
    assert "| `gsm8k-1b-q4_k_m` |" not in card
    assert "ladder.png" not in card, "the plot would show it"
    card = card_of(run, "gguf")
    assert "| `merged` | `tuned` | no |" in card, "what the file was made of is its measure"


@pytest.mark.parametrize("text", ["61", "0.618", "-3", "1,319", "5e-06"])
def test_a_name_that_is_all_digits_cannot_pass_for_a_result(text):
    assert code(text) == f'`"{text}"`'


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
    assert loose_numbers(prose) == loose


def test_a_number_typed_into_a_template_stops_the_card(run, monkeypatch):
    monkeypatch.setitem(TEMPLATES.globals, "name", lambda *_, **__: "right 61.8% of the time")
    with pytest.raises(LooseNumberError, match=r"61\.8"):
        card_of(run)


def test_a_number_is_a_link_to_its_place():
    file = ResultFile("results/a b.json", {"x/y": {"n (all)": 3}, "rows": [{"v": 0.5}]})
    assert number(file, count, "x/y", "n (all)") == "[3](results/a%20b.json#/x~1y/n%20%28all%29)"
    assert number(file, setting, "rows", 0, "v") == "[0.5](results/a%20b.json#/rows/0/v)"
    assert number(file, setting, "rows", 7, "v") == "*not recorded*"


def test_the_same_run_makes_the_same_card(run):
    assert card_of(run) == card_of(run)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("<script>alert(1)</script><img src=https://a.test/x>", id="html"),
        pytest.param("[click](javascript:alert(1)) ![x](https://a.test/x.png)", id="links"),
        pytest.param("a | b |\n| --- |\n", id="table"),
        pytest.param("`x` ``y`` ```z```", id="code"),
        pytest.param("---\nlicense: mit\n---\n# Mine", id="front-matter"),
        pytest.param("\x1b[31m\x9b1m\u202eevil\u200b\u2028", id="steering"),
        pytest.param("word" * 5_000, id="long"),
    ],
)
def test_foreign_names_on_the_card_are_names_only(run, text):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["versions"] |= {text: text}
    manifest["rewards"] |= {text: 1.0}
    manifest["config"]["grpo"] |= {text: text}
    manifest["backend"] = manifest["data"]["name"] = text
    write_json(run / "manifest.json", manifest)
    check = json.loads((run / "gguf/check.json").read_text())
    gate = {"passed": True, "found": {text: 1}, "limit": {text: 1}}
    check["files"][text] = {"gates": {text: gate}}
    write_json(run / "gguf/check.json", check)
    header, _, body = card_of(run).removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["license"] == "gemma"
    plain = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", body, flags=re.DOTALL | re.M))
    foreign = ("<script", "<img", "javascript:", "https://a.test", "license: mit", "# Mine")
    assert not any(part in plain for part in foreign)
    assert printable(body) == body
    assert max(map(len, body.splitlines())) < 2_000

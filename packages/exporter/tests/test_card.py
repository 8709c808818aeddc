"""The card: its numbers come from published files, and what nobody recorded is not invented."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from xmlgrpo_exporter import number_format
from xmlgrpo_exporter.base_model import BaseModel
from xmlgrpo_exporter.figures import (
    Figure,
    Missing,
    Name,
    ResultFile,
    UnsourcedNumberError,
    Words,
    markdown,
    numbers_without_source,
)
from xmlgrpo_exporter.licence import find_licence
from xmlgrpo_exporter.prepare import Prepared, Wanted, prepare

from . import run_folders
from .run_folders import share, write_json

REPO = "alice/gsm8k-1b"
HUB = "https://hub.example"


def no_card(hub_id):
    return None


def prepared(run: Path, *what: str, base_id: str | None = None, look_up=no_card) -> Prepared:
    wanted = Wanted(run, HUB, REPO, "main", what or None, private=True, base_id=base_id)
    return prepare(wanted, (), look_up)


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def summary(hits: int, n: int) -> dict:
    return {"mean": hits / n, "low": 0.0, "high": 1.0, "hits": hits, "n": n}


def write_evaluation(run: Path, *, limit: int | None = None) -> None:
    """What `make eval` leaves: two results and their comparison."""
    for label, hits in (("base", 300), ("tuned", 800)):
        metrics = {
            "strict_accuracy": summary(hits, 1319),
            "reply_tokens": {"mean": 131.06, "low": 128.0, "high": 134.0, "n": 1319},
        }
        write_json(
            run / "eval" / f"{label}.json",
            {
                "format": 1,
                "label": label,
                "subject": {"limit": limit, "data": None, "k": 1},
                "tasks": {"gsm8k_xml": {"metrics": metrics, "items": [{"id": "1", "x": 4}]}},
            },
        )
    compared = {
        "strict_accuracy": {
            "first": summary(300, 1319),
            "second": summary(800, 1319),
            "difference": {"value": 0.379, "low": 0.35, "high": 0.41},
            "p": 1.25e-30,
            "table": {"both": 290, "only_first": 10, "only_second": 510, "neither": 509},
        },
        "reply_tokens": {
            "first": {"mean": 150.0, "low": 148.0, "high": 152.0, "n": 1319},
            "second": {"mean": 131.06, "low": 128.0, "high": 134.0, "n": 1319},
            "difference": {"value": -18.94, "low": -21.0, "high": -16.0},
            "p": None,
        },
    }
    task = {"items": 1319, "judged_by": "strict_accuracy", "metrics": compared}
    write_json(
        run / "eval" / "compare.json",
        {"format": 1, "first": "base", "second": "tuned", "tasks": {"gsm8k_xml": task}},
    )


@pytest.fixture
def run(tmp_path):
    run = run_folders.write_full_run(tmp_path / "gsm8k-1b")
    write_evaluation(run)
    return run


# --- numbers and their files


def linked_numbers(card: str) -> list[tuple[str, str, str]]:
    """The card's figures: text, file, JSON pointer."""
    return [
        (text, unquote(file), unquote(pointer or ""))
        for text, file, pointer in re.findall(
            r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(?:#([^)\s]*))?\)", card
        )
        if not file.startswith("https://")
    ]


def value_at(content: bytes, pointer: str):
    value = json.loads(content)
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def agrees(text: str, value) -> bool:
    """Whether a printed figure is this value, to the digits printed; the arithmetic done anew."""
    if isinstance(value, bool):
        return text in (("yes", "passed") if value else ("no", "failed"))
    printed = float(re.match(r"[-+]?[\d,.]+(e-?\d+)?", text)[0].replace(",", ""))
    if not isinstance(value, dict):
        value /= {"kB": 1e3, "MB": 1e6}.get(text.rpartition(" ")[2], 1)
        return printed == pytest.approx(value, rel=0.05 if "e-" in text else 1e-9)
    if "hits" in value:
        total = value.get("total", value.get("n"))
        share = 100 * value["hits"] / total
        return printed == pytest.approx(share, abs=0.05) and text.endswith(f" of {total:,}")
    if "mean" in value:
        return printed == pytest.approx(value["mean"], rel=5e-4)
    points = 100 if text.endswith("points") else 1
    return printed == pytest.approx(points * value["value"], rel=5e-4)


def test_every_number_on_the_card_is_the_number_in_its_file(run):
    """Follows each link by hand: the published bytes, the pointer, the value, the rounding."""
    result = prepared(run)
    published = {file.target: file for file in result.plan.files}
    found = linked_numbers(result.card)
    assert len(found) > 50
    for text, target, pointer in found:
        file = published[target]
        if pointer:
            assert agrees(text, value_at(file.read(), pointer)), (text, target, pointer)
        else:
            scale = {"B": 1, "kB": 1e3}[text.split()[1]]  # of the file that the link names
            assert float(text.split()[0]) == pytest.approx(file.size / scale, abs=0.05), target


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
    from xmlgrpo_exporter import card as card_module

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


# --- what is not known


def test_an_adapter_trained_elsewhere(tmp_path):
    """A folder with an adapter and nothing else: no result, no settings, and it says so."""
    run_folders.write_adapter(tmp_path / "mine", base="meta-llama/Llama-3.2-1B-Instruct")
    result = prepared(tmp_path / "mine")
    assert [file.target for file in result.plan.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
    ]
    assert "It was trained elsewhere" in result.card
    assert "No result was recorded." in result.card
    assert "Not recorded: there is no manifest" in result.card
    assert all(not pointer for _, _, pointer in linked_numbers(result.card))
    data = metadata(result.card)
    assert data["base_model"] == "meta-llama/Llama-3.2-1B-Instruct"
    assert (data["license"], data["library_name"]) == ("unknown", "peft")
    assert "model-index" not in data
    assert 'PeftModel.from_pretrained(base, "alice/gsm8k-1b", revision="main")' in result.card


def test_gguf_files_alone(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf", "m-Q4_K_M.gguf")
    result = prepared(tmp_path / "files")
    assert "A model whose base nobody recorded" in result.card
    assert "**not checked**" in result.card
    assert "ollama run hf.co/alice/gsm8k-1b:Q8_0\n" in result.card
    assert "ollama run hf.co/alice/gsm8k-1b:Q4_K_M\n" in result.card
    assert metadata(result.card)["library_name"] == "gguf"
    # its architecture is Gemma's and its base is not named: the stricter reading
    assert metadata(result.card)["license"] == "gemma"
    assert "Notice" in [file.target for file in result.plan.files]


def test_gguf_files_alone_with_their_base_named(tmp_path):
    run_folders.write_gguf(tmp_path / "files", "m-q8_0.gguf")
    cards = {"google/gemma-9-1b": {"license": "apache-2.0"}}
    result = prepared(tmp_path / "files", base_id="google/gemma-9-1b", look_up=cards.get)
    data = metadata(result.card)
    assert (data["base_model"], data["license"]) == ("google/gemma-9-1b", "apache-2.0")
    assert "Notice" not in [file.target for file in result.plan.files]


def test_a_manifest_without_some_numbers(run):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["holdout"]["before"]["worked"], manifest["commit"], manifest["seconds"]
    write_json(run / "manifest.json", manifest)
    card = prepared(run).card
    assert "| shows its working | *not recorded* | [99.5%" in card
    assert "| code's commit | *not recorded* |" in card
    assert "| training took, in seconds | *not recorded* |" in card


def test_the_tiny_base_goes_along_under_our_licence(tmp_path):
    run = run_folders.write_full_run(tmp_path / "tiny")
    base = tmp_path / "home" / "ann" / "base-7f"
    run_folders.write_merged(base)
    run_folders.write_adapter(run / "adapter", base=str(base))
    manifest = run_folders.MANIFEST | {
        "base": run_folders.BASE | {"name": str(base), "revision": None, "tiny": True},
        "data": run_folders.MANIFEST["data"] | {"source": "generated", "name": "generated"},
    }
    write_json(run / "manifest.json", manifest)
    result = prepared(run)
    targets = [file.target for file in result.plan.files]
    assert "base/model.safetensors" in targets
    assert "Notice" not in targets
    assert metadata(result.card)["license"] == "mit"
    assert "none of Gemma's weights" in result.card
    assert 'subfolder="base"' in result.card
    published = b"".join(file.read() for file in result.plan.files)
    assert str(tmp_path).encode() not in published
    assert b'"base_model_name_or_path": "base-7f"' in published


def test_an_adapter_on_a_local_base_of_somebody_says_that_it_needs_it(tmp_path):
    run_folders.write_adapter(tmp_path / "mine", base="/models/finetuned")
    result = prepared(tmp_path / "mine")
    assert "The base model is not on the Hub under a name that is known here" in result.card
    assert "/models" not in result.card


# --- licence


@pytest.mark.parametrize(
    ("base", "card", "expected"),
    [
        pytest.param(
            BaseModel("google/gemma-3-1b-it"), None, "gemma", id="gemma-by-name-when-offline"
        ),
        pytest.param(
            BaseModel("unsloth/gemma-3-4b-it-bnb-4bit"), None, "gemma", id="gemma-repacked"
        ),
        pytest.param(
            BaseModel("google/gemma-3-1b-it"), {"license": "gemma"}, "gemma", id="gemma-by-card"
        ),
        pytest.param(
            BaseModel("google/gemma-4-1b"), {"license": "apache-2.0"}, "apache-2.0", id="its-own"
        ),
        pytest.param(
            BaseModel("Qwen/Qwen2.5-1.5B"), {"license": "apache-2.0"}, "apache-2.0", id="qwen"
        ),
        pytest.param(
            BaseModel("meta/x"), {"license": ["llama3.2"]}, "llama3.2", id="a-list-of-one"
        ),
        pytest.param(BaseModel("some/model"), None, "unknown", id="nobody-knows"),
        pytest.param(BaseModel("some/model"), {}, "unknown", id="card-without-licence"),
        pytest.param(BaseModel(), None, "unknown", id="no-base"),
        pytest.param(
            BaseModel(architecture="Gemma3ForCausalLM"), None, "gemma", id="gemma-by-architecture"
        ),
        pytest.param(
            BaseModel(architecture="Gemma3ForCausalLM", tiny=True), None, "mit", id="ours"
        ),
        pytest.param(BaseModel(architecture="LlamaForCausalLM"), None, "unknown", id="llama"),
    ],
)
def test_the_licence(base, card, expected):
    licence = find_licence(base, lambda hub_id: card)
    assert licence.id == expected
    assert (licence.notice is not None) == (expected == "gemma")


def test_the_licence_in_the_folder_of_the_base_comes_first(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: house\nlicense_link: https://x.example\n---\n# x\n"
    )
    licence = find_licence(BaseModel(folder=tmp_path, architecture="Gemma3ForCausalLM"), no_card)
    assert (licence.id, licence.name, licence.link) == ("other", "house", "https://x.example")


def test_gemma_terms_and_notice(run):
    result = prepared(run)
    notice = next(file for file in result.plan.files if file.target == "Notice")
    assert notice.read() == (
        b"Gemma is provided under and subject to the Gemma Terms of Use found at "
        b"ai.google.dev/gemma/terms\n"
    )
    assert metadata(result.card)["license_link"] == "https://ai.google.dev/gemma/terms"
    assert "These weights were modified: they derive from `google/gemma-3-1b-it`" in result.card


# --- what the Hub reads


def test_the_model_index_and_the_eval_results(run):
    result = prepared(run)
    index = metadata(result.card)["model-index"][0]["results"]
    test = next(entry for entry in index if entry["dataset"]["split"] == "test")
    assert test["dataset"]["type"] == "openai/gsm8k"
    assert test["metrics"][0]["value"] == 800 / 1319
    assert test["source"]["url"] == f"{HUB}/{REPO}/blob/main/results/eval/tuned.json"
    file = next(file for file in result.plan.files if file.target.startswith(".eval_results/"))
    (entry,) = yaml.safe_load(file.read())
    assert entry["dataset"]["id"] == "openai/gsm8k"
    assert entry["value"] == 800 / 1319
    assert entry["source"]["url"] == test["source"]["url"]


def test_a_part_of_the_test_split_is_no_benchmark_result(run):
    write_evaluation(run, limit=100)
    result = prepared(run)
    assert not any(file.target.startswith(".eval_results") for file in result.plan.files)
    index = metadata(result.card)["model-index"][0]["results"]
    assert {entry["dataset"]["split"] for entry in index} == {"train"}


# --- hostile words in a manifest


@pytest.mark.parametrize(
    "name",
    ["a`b | c", "x\n# Best model: 99%", "<img src=x onerror=alert(1)>", "[100%](http://x)"],
)
def test_words_of_a_manifest_cannot_leave_their_code_span(run, name):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["hardware"]["device"] = name
    write_json(run / "manifest.json", manifest)
    line = next(line for line in prepared(run).card.splitlines() if line.startswith("| device |"))
    assert re.fullmatch(r"\| device \| `[^`|]*` \|", line)


def test_the_same_run_makes_the_same_card(run):
    assert prepared(run).plan.digest == prepared(run).plan.digest

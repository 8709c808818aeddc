"""Cards for tests: made from run folders, and read as a reader does who distrusts them."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from xmlgrpo_exporter.prepare import Prepared, Wanted, prepare

from .run_folders import write_json

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


GSM8K = {
    "source": "hub",
    "name": "openai/gsm8k",
    "revision": "e53f048856ff4f594e959d75785d2c2d37b678ee",
    "sha256": "5d2c" * 16,
    "rows": 1319,
}


SUBJECT = {"data": None, "k": 1, "chat_template": True, "harness": {}, "max_new_tokens": 1024}


def write_evaluation(run: Path, *, limit: int | None = None, data: dict | None = GSM8K) -> None:
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
                "subject": SUBJECT | {"limit": limit},
                **({} if data is None else {"data": data}),
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

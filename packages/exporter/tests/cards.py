"""Cards for tests: made from run folders, and read as a reader does who distrusts them."""

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from xmlgrpo_exporter.card.card import with_card
from xmlgrpo_exporter.publish.preflight import Destination
from xmlgrpo_exporter.publish.release import Release, prepare_release
from xmlgrpo_run.folder import RunFolder
from xmlgrpo_run.measures.summary import compare_by_steps, compare_metric, metrics_of

from .run_folders import write_json

REPO = "alice/gsm8k-1b"
HUB = "https://hub.example"


def no_card(hub_id):
    return None


def prepared(run: Path, *what: str, base_id: str | None = None, look_up=no_card) -> Release:
    to = Destination(HUB, REPO, "main", private=True)
    given = {"look_up": look_up, "secrets": (), "console": Console(quiet=True)}
    return prepare_release(RunFolder(run), to, what or None, base_id, **given)


def with_its_card(run: Path, *what: str, **options) -> Release:
    return with_card(prepared(run, *what, **options), ())


def card_of(run: Path, *what: str) -> str:
    return with_its_card(run, *what).card


def published(run: Path, *what: str) -> dict[str, bytes]:
    """What the repository would hold, by path."""
    return {file.target: file.read() for file in with_its_card(run, *what).files}


def metadata(card: str) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return fields


def summary(hits: int, n: int) -> dict[str, Any]:
    return {"mean": hits / n, "low": 0.0, "high": 1.0, "hits": hits, "n": n}


GSM8K = {
    "source": "hub",
    "name": "openai/gsm8k",
    "revision": "e53f048856ff4f594e959d75785d2c2d37b678ee",
    "sha256": "5d2c" * 16,
    "rows": 1319,
}


SUBJECT: dict[str, Any] = {
    "data": None,
    "k": 1,
    "chat_template": True,
    "harness": {},
    "max_new_tokens": 1024,
    "format_version": 3,
}


# item by item, right with base and tuned: 290 both, 10 only the base, 510 only the tuned one
RIGHT = [(1, 1)] * 290 + [(1, 0)] * 10 + [(0, 1)] * 510 + [(0, 0)] * 509


def write_evaluation(
    run: Path, *, limit: int | None = None, data: dict[str, Any] | None = GSM8K
) -> None:
    """What `make eval` leaves: two results and their comparison."""
    models: dict[str, dict[str, Any]] = {}
    for place, label in enumerate(("base", "tuned")):
        items = [
            {
                "id": str(number),
                "steps": 1 + number % 9,
                "scores": {"strict_accuracy": float(right[place]), "reply_tokens": float(tokens)},
            }
            for number, right in enumerate(RIGHT)
            for tokens in [150 - 20 * place + number % 7]
        ]
        models[label] = {"data": data, "metrics": metrics_of(items), "items": items}
        write_json(
            run / "eval" / f"{label}.json",
            {
                "format": 1,
                "label": label,
                "subject": SUBJECT | {"limit": limit},
                "tasks": {"gsm8k_xml": models[label]},
            },
        )
    compared = {
        metric: compare_metric(
            [[item["scores"][metric] for item in model["items"]] for model in models.values()],
            *(model["metrics"][metric] for model in models.values()),
        )
        for metric in ("strict_accuracy", "reply_tokens")
    }
    task = {"data": data, "items": 1319, "judged_by": "strict_accuracy", "metrics": compared}
    task["by_steps"] = compare_by_steps(*(model["items"] for model in models.values()))
    names = {"format": 1, "first": "base", "second": "tuned"}
    settings = {"settings": SUBJECT | {"limit": limit}}
    write_json(run / "eval/compare.json", names | settings | {"tasks": {"gsm8k_xml": task}})

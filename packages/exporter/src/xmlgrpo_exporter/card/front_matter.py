"""What the Hub reads: the card's front matter with its model index, and `.eval_results`.

The model index is the older form; the Hub's leaderboards read `.eval_results/*.yaml`.  Both are
written, with the result file's address as source.
"""

from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from xmlgrpo_exporter.card.headline import Headline, headlines
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.upload.subject import Subject

TAGS = ("grpo", "reasoning", "xmlgrpo")


def front_matter(subject: Subject, results: RunResults) -> str:
    """The YAML between the card's two lines of dashes."""
    found = headlines(subject, results)
    licence, base = subject.licence, subject.base
    data: dict[str, Any] = {
        "license": licence.id,
        "license_name": licence.name,
        "license_link": licence.link,
        "base_model": base.hub_id,
        "base_model_relation": base.hub_id and _relation(subject),
        "library_name": _library(subject),
        "pipeline_tag": "text-generation",
        "tags": list(TAGS),
        "datasets": sorted({headline.dataset_id for headline in found if headline.on_the_hub}),
    }
    if found:
        data["model_name"] = subject.repo.partition("/")[2]
        data["eval_results"] = [_index_entry(subject, headline) for headline in found]
    given = {key: value for key, value in data.items() if value}
    return ModelCardData(**given).to_yaml() + "\n"


def eval_results_file(subject: Subject, results: RunResults) -> bytes | None:
    """The content of `.eval_results/xmlgrpo.yaml`; None without a result on a Hub data set's test.

    Held-out problems of a training split are nobody's benchmark, so they are not in it.
    """
    entries = [
        EvalResultEntry(
            dataset_id=headline.dataset_id,
            task_id=headline.task,
            value=headline.value,
            dataset_revision=headline.dataset_revision,
            source_url=_address(subject, headline.file),
            source_name=headline.file,
            notes=headline.metric_name,
        )
        for headline in headlines(subject, results)
        if headline.on_the_hub and headline.split == "test"
    ]
    if not entries:
        return None
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode()


def _index_entry(subject: Subject, headline: Headline) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=headline.dataset_id,
        dataset_name=headline.dataset_name,
        dataset_split=headline.split,
        dataset_revision=headline.dataset_revision,
        metric_type=headline.metric_type,
        metric_name=headline.metric_name,
        metric_value=headline.value,
        source_name=headline.file,
        source_url=_address(subject, headline.file),
    )


def _address(subject: Subject, file: str) -> str:
    return f"{subject.hub}/{subject.repo}/blob/{subject.revision}/{file}"


def _relation(subject: Subject) -> str:
    if subject.has_merged:
        return "finetune"
    return "adapter" if subject.has_adapter else "quantized"


def _library(subject: Subject) -> str:
    if subject.has_merged:
        return "transformers"
    return "peft" if subject.has_adapter else "gguf"

"""What the Hub reads: the card's front matter with its model index, and `.eval_results`.

The model index is the older form; the Hub's leaderboards read `.eval_results/*.yaml`.  Both are
written, with the result file's address as source.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_rewards.task import task_names

TAGS = ("grpo", "reasoning", "xmlgrpo")
METRICS = {
    "strict_accuracy": "right and in the reply format",
    "lenient_accuracy": "right in any format",
}
# all rows, asked as in training; sampled replies beside the greedy ones are another task
AS_TRAINED: Mapping[str, Any] = {"limit": None, "chat_template": True, "harness": {}}


@dataclass(frozen=True, slots=True)
class Score:
    """A share of right answers on one set of problems, of a model that is published."""

    value: float  # 0 to 1
    metric: str  # what was counted, in words
    data: Mapping[str, Any]  # the problems as recorded: `source`, `name`, `revision`, `sha256`
    split: str  # of the data set
    task: str
    target: str  # the published result file


def front_matter(release: Release) -> str:
    """The YAML between the card's two lines of dashes."""
    scores = scores_of(release)
    on_the_hub = {score.data["name"] for score in scores if score.data["source"] == "hub"}
    licence, base = release.licence, release.base
    if "merged" in release.what:
        relation, library = "finetune", "transformers"
    elif "adapter" in release.what:
        relation, library = "adapter", "peft"
    else:
        relation, library = "quantized", "gguf"
    data = ModelCardData(
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        base_model=base.hub_id,
        base_model_relation=base.hub_id and relation,
        library_name=library,
        pipeline_tag="text-generation",
        tags=list(TAGS),
        datasets=sorted(on_the_hub) or None,
        model_name=release.to.repo.partition("/")[2] if scores else None,
        eval_results=[_index_entry(release, score) for score in scores] or None,
    )
    return data.to_yaml() + "\n"


def eval_results(release: Release) -> bytes | None:
    """The content of `.eval_results/xmlgrpo.yaml`; None without a result on a Hub data set's test.

    Held-out problems of a training split are nobody's benchmark, so they are not in it.
    """
    entries = [
        EvalResultEntry(
            dataset_id=score.data["name"],
            task_id=score.task,
            value=score.value,
            dataset_revision=score.data.get("revision"),
            source_url=release.to.page_of(score.target),
            source_name=score.target,
            notes=score.metric,
        )
        for score in scores_of(release)
        if score.data["source"] == "hub" and score.split == "test"
    ]
    if not entries:
        return None
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode()


def scores_of(release: Release) -> list[Score]:
    """The results worth a line in the front matter: those measured on what is published.

    Merged weights and the adapter are the trained model, under one label of the two; a quantized
    file answers for itself alone.
    """
    results = release.results

    def of(label: str) -> list[Score]:
        files = (file for file in results.evaluations if file.at("label") == label)
        return next(filter(None, (list(_evaluated(file)) for file in files)), [])

    if not {"adapter", "merged"} & set(release.what):
        return [score for label in release.labels for score in of(label)]
    trained = (of("merged") if "merged" in release.what else []) or of("tuned")
    return trained + (list(_held_out(results.manifest)) if results.manifest else [])


def _evaluated(file: ResultFile) -> Iterator[Score]:
    """The results of all problems of a known task.

    A part of the problems (`--limit`), or ones asked in another way, are on the card, but are
    nobody's benchmark; nor is a result whose file does not say which problems were graded.
    """
    if any(file.at("subject", key) != usual for key, usual in AS_TRAINED.items()):
        return
    of_model = "" if file.at("label") in ("merged", "tuned") else f", {file.at('label')}"
    for task in (f"{name}_xml" for name in task_names()):
        part = file.part("tasks", task)
        for metric, words in METRICS.items():
            mean, n = part.at("metrics", metric, "mean"), part.at("metrics", metric, "n")
            if mean is not None and n == part.at("data", "rows"):
                yield Score(mean, words + of_model, part.at("data"), "test", task, file.target)


def _held_out(manifest: ResultFile) -> Iterator[Score]:
    for metric, words in METRICS.items():
        share = manifest.part("holdout", "after", metric)
        if share.at("total"):
            yield Score(
                share.at("hits") / share.at("total"),
                f"{words} (held-out part of the training split)",
                manifest.at("data"),
                "train",
                manifest.at("task"),
                manifest.target,
            )


def _index_entry(release: Release, score: Score) -> EvalResult:
    name, sha256 = str(score.data["name"]), score.data.get("sha256")
    is_file = score.data.get("source") == "files"
    return EvalResult(
        task_type="text-generation",
        dataset_type=name,
        dataset_name=f"{name}, a file with sha256 {sha256}" if is_file else name,
        dataset_split=score.split,
        dataset_revision=score.data.get("revision"),
        metric_type="accuracy",
        metric_name=score.metric,
        metric_value=score.value,
        source_name=score.target,
        source_url=release.to.page_of(score.target),
    )

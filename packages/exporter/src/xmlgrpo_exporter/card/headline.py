"""The few results that stand for the run where only one number fits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from xmlgrpo_exporter.card.figures import ResultFile
from xmlgrpo_exporter.card.graded_on import data_pointer
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_exporter.upload.subject import Subject
from xmlgrpo_rewards.task import task_names

METRICS = (
    ("strict_accuracy", "right and in the reply format"),
    ("lenient_accuracy", "right in any format"),
)


@dataclass(frozen=True, slots=True)
class Headline:
    """One result: a share of right answers on one set of problems.

    Attributes:
        value: the share, 0 to 1.
        metric_type: the Hub's name of the metric.
        metric_name: what was counted, in words.
        dataset_id: on the Hub, or a local name.
        dataset_name: for people.
        dataset_revision: the commit, where known.
        split: of the data set.
        task: the task's name.
        on_the_hub: whether `dataset_id` is a data set on the Hub.
        file: the published result file.
        pointer: where in it the hits and the total stand.
    """

    value: float
    metric_type: str
    metric_name: str
    dataset_id: str
    dataset_name: str
    dataset_revision: str | None
    split: str
    task: str
    on_the_hub: bool
    file: str
    pointer: str


def headlines(subject: Subject, results: RunResults) -> tuple[Headline, ...]:
    """The results worth a line in the front matter: those measured on what is published.

    Merged weights and the adapter are the trained model, under one label of the two; a quantized
    file answers for itself alone.
    """
    if not (subject.has_adapter or subject.has_merged):
        stems = {file.removesuffix(".gguf") for file in subject.ggufs}
        return _of(results, stems, name_them=True)
    measured: tuple[Headline, ...] = ()
    for label in ("merged", "tuned") if subject.has_merged else ("tuned",):
        measured = measured or _of(results, {label}, name_them=False)
    held_out = [] if results.manifest is None else _holdout(results.manifest)
    return (*measured, *held_out)


def _of(results: RunResults, labels: set[str], *, name_them: bool) -> tuple[Headline, ...]:
    return tuple(
        replace(line, metric_name=f"{line.metric_name}, {label}") if name_them else line
        for file in results.evals
        if (label := file.at("/label")) in labels
        for line in _evaluation(file)
    )


def _evaluation(file: ResultFile) -> list[Headline]:
    """The results of all problems of a known task.

    A part of them (`--limit`), or one asked in another way, is on the card, but is nobody's
    benchmark; nor is a result whose file does not say which problems were graded.
    """
    if not _plain(file):
        return []
    found = []
    for task in task_names():
        at = f"/tasks/{task}_xml/metrics"
        data = file.at(data_pointer(file, f"{task}_xml"))
        if not isinstance(data, Mapping):
            continue
        name, on_the_hub = str(data.get("name")), data.get("source") == "hub"
        for metric, words in METRICS:
            value = file.at(f"{at}/{metric}")
            if value is None or value.get("mean") is None or value.get("n") != data.get("rows"):
                continue
            found.append(
                Headline(
                    value=value["mean"],
                    metric_type="accuracy",
                    metric_name=words,
                    dataset_id=name,
                    dataset_name=name
                    if on_the_hub
                    else f"{name}, a file with sha256 {data.get('sha256')}",
                    dataset_revision=data.get("revision"),
                    split="test",
                    task=f"{task}_xml",
                    on_the_hub=on_the_hub,
                    file=file.published,
                    pointer=f"{at}/{metric}",
                )
            )
    return found


def _plain(file: ResultFile) -> bool:
    """Whether all problems were asked once, in the chat template, with no option of lm-eval's."""
    subject = file.at("/subject") or {}
    usual: dict[str, object] = {"limit": None, "k": 1, "chat_template": True, "harness": {}}
    return all(subject.get(key) == value for key, value in usual.items())


def _holdout(manifest: ResultFile) -> list[Headline]:
    source = manifest.at("/data/source")
    name = manifest.at("/data/name") or source
    return [
        Headline(
            value=value["hits"] / value["total"],
            metric_type="accuracy",
            metric_name=f"{words} (held-out part of the training split)",
            dataset_id=str(name),
            dataset_name=str(name),
            dataset_revision=manifest.at("/data/revision"),
            split="train",
            task=str(manifest.at("/task")),
            on_the_hub=source == "hub",
            file=manifest.published,
            pointer=f"/holdout/after/{metric}",
        )
        for metric, words in METRICS
        if isinstance(value := manifest.at(f"/holdout/after/{metric}"), Mapping)
        and value.get("total")
    ]

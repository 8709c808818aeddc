"""Which problems a result was graded on, as far as the result files say.

Evaluations of before they recorded their `data` say at most the hash of a file.  Then the card
names no data set, and nothing is claimed for a benchmark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from xmlgrpo_exporter.card.figures import Figure, Name, ResultFile, escape_pointer
from xmlgrpo_exporter.card.number_format import count


@dataclass(frozen=True, slots=True)
class GradedData:
    """The problems behind a result, ready to be printed.

    Attributes:
        on_the_hub: whether they were loaded from the Hub; otherwise they were a file's.
        name: the data set's name there, or the file's.
        revision: the data set's commit.
        sha256: of the problems.
        rows: how many there are.
        limit: how many of them, the first ones, were graded; None for all.
        max_tokens: the limit of a reply.

    All but the first are None where nobody recorded them.
    """

    on_the_hub: bool
    name: Name | None
    revision: Name | None
    sha256: Name | None
    rows: Figure | None
    limit: Figure | None
    max_tokens: Figure | None


def graded_data(
    file: ResultFile, task: str, evaluations: Sequence[ResultFile]
) -> GradedData | None:
    """The problems behind a task's results in a file; None where nobody recorded them.

    A comparison and the ladder have those of the evaluations that they were made of, when all of
    these say the same.

    Args:
        file: an evaluation, a comparison or the ladder.
        task: the task's name in the file.
        evaluations: the evaluations of the run.
    """
    sources = [file] if file.at("/subject") is not None else made_of(file, evaluations)
    recorded = [_recorded(source, task) for source in sources]
    if not recorded or recorded[0] is None or any(data != recorded[0] for data in recorded):
        return None
    source, from_file = sources[0], recorded[0]["source"] == "files"
    at = data_pointer(source, task)
    return GradedData(
        on_the_hub=not from_file,
        name=_name(source, f"{at}/name"),
        revision=_name(source, f"{at}/revision"),
        sha256=_name(source, f"{at}/sha256", "/subject/data"),
        rows=_count(source, f"{at}/rows"),
        limit=_count(source, "/subject/limit"),
        max_tokens=_count(source, "/subject/max_new_tokens"),
    )


def data_pointer(evaluation: ResultFile, task: str) -> str:
    """Where an evaluation says which problems a task graded: with the task, or for its only one."""
    with_task = f"/tasks/{escape_pointer(task)}/data"
    return with_task if evaluation.at(with_task) is not None else "/data"


def _recorded(evaluation: ResultFile, task: str) -> Mapping[str, Any] | None:
    data, digest = evaluation.at(data_pointer(evaluation, task)), evaluation.at("/subject/data")
    if isinstance(data, Mapping) and data.get("source") in ("hub", "files"):
        return data
    return {"source": "files", "sha256": digest} if isinstance(digest, str) else None


def made_of(file: ResultFile, evaluations: Sequence[ResultFile]) -> list[ResultFile]:
    """The evaluations that a comparison or the ladder was made of; none unless all are there."""
    if file.at("/rungs") is not None:
        labels = [rung.get("label") for rung in file.at("/rungs")]
        settings: Mapping[str, Any] = file.at("/settings") or {}
        found = [
            evaluation
            for evaluation in evaluations
            if evaluation.at("/label") in labels
            and all(evaluation.at(f"/subject/{key}") == value for key, value in settings.items())
        ]
    else:
        labels = [file.at("/first"), file.at("/second")]
        suffix = PurePosixPath(file.published).name.removeprefix("compare")
        names = [f"{label}{suffix}" for label in labels]
        found = [
            evaluation
            for evaluation in evaluations
            if PurePosixPath(evaluation.published).name in names
        ]
    return found if {evaluation.at("/label") for evaluation in found} == set(labels) else []


def _name(file: ResultFile, *pointers: str) -> Name | None:
    name = file.name(*pointers)
    return name if isinstance(name, Name) else None


def _count(file: ResultFile, pointer: str) -> Figure | None:
    number = file.figure(pointer, count)
    return number if isinstance(number, Figure) else None

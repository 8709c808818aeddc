"""Results counted again: every number on the card follows from what the same run recorded.

An evaluation keeps the score of every item, so its metrics are counted from these; a comparison and
a rung of the ladder are of evaluations, and the held-out result is of the replies that training
kept.  A number that does not follow is not published, whoever wrote it there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from math import isclose
from pathlib import PurePosixPath
from typing import Any

from xmlgrpo_exporter.check.verdict import NO_NUMBERS, number
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_rewards.interval import Share
from xmlgrpo_run.measures.holdout import holdout_metrics
from xmlgrpo_run.measures.paired import Difference, Paired
from xmlgrpo_run.measures.summary import by_steps, compare_by_steps, compare_metric, metrics_of

ASKED_BY = ("limit", "seed", "k", "temperature", "max_new_tokens", "chat_template", "data")
"""What of a `subject` says how the items were asked."""
MADE_BY = "make eval RUN={run}, or make ladder RUN={run}"


class DoesNotFollowError(ValueError):
    """A number is not what its parts add up to; where, in words."""


def counting_problems(release: Release) -> Iterator[str]:
    """Why numbers of the results are not those of their parts, each with what to do."""
    results, run = release.results, release.run
    yield from filter(None, [_held_out_problem(release)])
    evaluated = [file for file in results.evaluations if file.at("label") is not None]
    for file in (*results.evaluations, *filter(None, [results.ladder])):
        try:
            if file is results.ladder:
                _ladder(file, evaluated)
            elif file.at("first") is None:
                _evaluation(file)
            else:
                _comparison(file, evaluated)
        except NO_NUMBERS as error:
            where = (
                error if isinstance(error, DoesNotFollowError) else "a number is none or missing"
            )
            yield (
                f"{PurePosixPath(file.target).name} is not what its own parts add up to ({where}); "
                f"remove it and make it again: {MADE_BY.format(run=run.called)}"
            )


def _held_out_problem(release: Release) -> str | None:
    """Why the manifest's held-out result is not that of the replies that training kept."""
    run, manifest = release.run, release.results.manifest
    if manifest is None:
        return None
    for path, when in ((run.holdout_before, "before"), (run.holdout_after, "after")):
        name = str(path.relative_to(run.root))
        hashed = manifest.at("files", name)
        if hashed is None:
            continue
        if not path.is_file():
            return f"{path} is gone; restore it from a copy, or train again"
        file = OwnFile(run.root, path)
        if file.sha256() != hashed:
            return f"{path} is damaged or was changed; restore it from a copy, or train again"
        try:
            items, stated = file.json()["items"], manifest.at("holdout", when)
            same = manifest.at("holdout", "rows") == len(items) and all(
                _equal(stated[metric], value) for metric, value in holdout_metrics(items).items()
            )
        except NO_NUMBERS:
            same = False
        if not same:
            return (
                f"{run.manifest} states another held-out result than {path} holds; restore both "
                "from a copy, or train again"
            )
    return None


def _evaluation(file: ResultFile) -> None:
    for name, task in file.at("tasks").items():
        metrics = _plain(metrics_of(task["items"]))
        for metric, value in metrics.items():
            _require(_equal(task["metrics"].get(metric), value), f"{metric} of {name}")
        if unknown := task["metrics"].keys() - metrics.keys():
            raise DoesNotFollowError(f"{min(unknown)} of {name} has no items")
        counted = _plain(by_steps(task["items"]))
        _require(_same(task.get("by_steps", counted), counted), f"by_steps of {name}")


def _comparison(file: ResultFile, evaluated: Sequence[ResultFile]) -> None:
    """See that a comparison is of two of the evaluations, where both are here."""
    settings = file.at("settings") or {}
    for name, task in file.at("tasks").items():
        for metric, row in task["metrics"].items():
            _consistent(row, f"{metric} of {name}")
        sides = [
            [
                one
                for one in evaluated
                if one.at("label") == file.at(which)
                and one.at("tasks", name) is not None
                and all(one.at("subject", key) == value for key, value in settings.items())
            ]
            for which in ("first", "second")
        ]
        faults = [_pair_fault(name, task, *pair) for pair in product(*sides)]
        if faults and None not in faults:
            raise DoesNotFollowError(faults[0])


def _pair_fault(
    name: str, task: Mapping[str, Any], first: ResultFile, second: ResultFile
) -> str | None:
    """Which number of a compared task is not that of these two evaluations."""
    pair = first.at("tasks", name), second.at("tasks", name)
    for metric, row in task["metrics"].items():
        summaries = [one["metrics"].get(metric) for one in pair]
        lists = [[item["scores"][metric] for item in one["items"]] for one in pair]
        if summaries != [row["first"], row["second"]] or not _equal(
            row, _plain(compare_metric(lists, row["first"], row["second"]))
        ):
            return f"{metric} of {name}"
    counted = _plain(compare_by_steps(*(one["items"] for one in pair)))
    return None if _same(task.get("by_steps", counted), counted) else f"by_steps of {name}"


def _consistent(row: Mapping[str, Any], where: str) -> None:
    """See that a row of a comparison could be true, whatever the items were."""
    first, second = row["first"], row["second"]
    for summary in (first, second):
        _summary(summary, where)
    if (table := row.get("table")) is not None:
        paired = Paired(**table)
        hits = paired.both + paired.only_first, paired.both + paired.only_second
        _require(hits == (first["hits"], second["hits"]), f"{where}, the table")
        _require(paired.total == first["n"] == second["n"], f"{where}, the table")
        _require(_equal(row["difference"], asdict(paired.difference)), f"{where}, the difference")
        _require(_equal(row["p"], paired.p_value), f"{where}, p")
    elif first["mean"] is not None and second["mean"] is not None:
        gap = second["mean"] - first["mean"]
        _require(isclose(row["difference"]["value"], gap, abs_tol=1e-6), f"{where}, the difference")


def _ladder(ladder: ResultFile, evaluated: Sequence[ResultFile]) -> None:
    tolerance, rungs = number(ladder.at("tolerance")), ladder.at("rungs")
    labels, settings = [rung["label"] for rung in rungs], ladder.at("settings") or {}
    _require(0 <= tolerance < 1, "the tolerance")
    _require(len(labels) == len(set(labels)), "a label stands there twice")
    by_name = {rung["label"]: rung for rung in rungs}
    for rung in rungs:
        label, accuracy = rung["label"], rung["accuracy"]
        _summary(accuracy, label)
        _require(accuracy["n"] == ladder.at("items"), f"{label}, the number of items")
        measured = [
            one.at("tasks", ladder.at("task"), "metrics", ladder.at("metric"))
            for one in evaluated
            if one.at("label") == label
            and one.at("subject", "model", "content") == rung["content"]
            and all(one.at("subject", key) == settings.get(key) for key in ASKED_BY)
        ]
        is_measured = not measured or any(_equal(accuracy, value) for value in measured)
        _require(is_measured, f"{label}, the accuracy")
        if rung["against"] is None:
            continue
        gap = Difference(**rung["difference"])
        change = accuracy["mean"] - by_name[rung["against"]]["accuracy"]["mean"]
        _require(isclose(gap.value, change, abs_tol=1e-9), f"{label}, the difference")
        _require(number(gap.low) <= gap.value <= number(gap.high), f"{label}, the interval")
        _require(rung["p"] is None or 0 <= number(rung["p"]) <= 1, f"{label}, p")
        is_right = gap.is_within(tolerance) and rung["prompts_as_in_training"] is not False
        _require(rung["passed"] is is_right, f"{label}, whether it passed")


def _summary(summary: Mapping[str, Any], where: str) -> None:
    """See that a metric's summary could be true."""
    if "hits" in summary:
        share = Share(summary["hits"], summary["n"])
        counted = {"mean": share.value, "low": share.low, "high": share.high}
        _require(_equal({name: summary[name] for name in counted}, counted), where)
    elif summary["mean"] is not None:
        low, mean, high = (number(summary[name]) for name in ("low", "mean", "high"))
        _require(low <= mean <= high, where)


def _plain(value: Any) -> Any:
    """As it is after it was written: no NaN and no infinity."""
    return json.loads(json.dumps(value), parse_constant=lambda _constant: None)


def _equal(stated: Any, counted: Any) -> bool:
    if isinstance(counted, Mapping):
        return isinstance(stated, Mapping) and all(
            _equal(stated.get(key), value) for key, value in counted.items()
        )
    if isinstance(counted, list):
        return isinstance(stated, list) and all(map(_equal, stated, counted))
    if isinstance(counted, float):
        return isclose(number(stated), counted, rel_tol=1e-6, abs_tol=1e-9)
    return bool(stated == counted) and type(stated) is type(counted)


def _same(stated: Mapping[str, Any], counted: Mapping[str, Any]) -> bool:
    return stated.keys() == counted.keys() and _equal(stated, counted)


def _require(holds: bool, where: str) -> None:  # noqa: FBT001  it is what is required
    if not holds:
        raise DoesNotFollowError(where)

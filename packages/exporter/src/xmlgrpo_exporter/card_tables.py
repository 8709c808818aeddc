"""The card's tables, made from result files alone.

Every cell is a `Figure` that the table's file gave, or says that it is missing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from xmlgrpo_exporter.figures import (
    Figure,
    Missing,
    Name,
    Printable,
    ResultFile,
    Table,
    Words,
    change,
    count,
    difference,
    escape_pointer,
    p_value,
    plain,
    share,
    size,
    summary,
)
from xmlgrpo_exporter.upload_plan import PlannedFile

HOLDOUT_ROWS = (
    ("strict_accuracy", "right, in the format"),
    ("lenient_accuracy", "right, in any format"),
    ("strict_format", "in the format"),
    ("worked", "shows its working"),
    ("truncated", "cut off"),
    ("no_answer", "no answer"),
)
MAX_CELLS = 400  # a card is read by people; the whole is in the file


def holdout_table(manifest: ResultFile) -> Table | None:
    """Held-out results before and after training; None when the run has none."""
    if not isinstance(manifest.at("/holdout/after"), Mapping):
        return None
    rows: list[tuple[Printable, ...]] = [
        (
            Words(label),
            manifest.figure(f"/holdout/before/{key}", share),
            manifest.figure(f"/holdout/after/{key}", share),
        )
        for key, label in HOLDOUT_ROWS
        if manifest.at(f"/holdout/after/{key}") is not None
    ]
    rows.append(
        (
            Words("tokens a reply, mean"),
            manifest.figure("/holdout/before/mean_tokens", plain),
            manifest.figure("/holdout/after/mean_tokens", plain),
        )
    )
    return Table((Words("held-out problems"), Words("before"), Words("after")), tuple(rows))


def training_table(manifest: ResultFile, config: ResultFile | None) -> Table:
    """How it was trained: data, rewards and their weights, steps, settings, machine, versions."""
    number = manifest.figure
    rows: list[tuple[Printable, Printable]] = [
        (Words("data"), manifest.name("/data/name", "/data/source")),
        (Words("training problems"), number("/data/train_rows", count)),
        (Words("held-out problems"), number("/data/holdout_rows", count)),
        (Words("problems dropped as too long"), number("/data/dropped_long", count)),
        (Words("data hash"), manifest.name("/data/sha256")),
        (Words("task"), manifest.name("/task")),
        (Words("reply format's version"), number("/format_version", plain)),
    ]
    rows += [
        (Name(f"reward {name}, weight"), number(f"/rewards/{escape_pointer(name)}", plain))
        for name in manifest.at("/rewards") or {}
    ]
    rows += [
        (Words("steps"), number("/steps", count)),
        (Words("step published"), number("/best_step", count)),
        (Words("seed"), number("/seed", plain)),
        (Words("training precision"), manifest.name("/base/dtype")),
        (Words("training took, in seconds"), number("/seconds", plain)),
        (Words("device"), manifest.name("/hardware/device")),
        (Words("processor cores"), number("/hardware/cores", plain)),
        (Words("backend"), manifest.name("/backend")),
        (Words("rollout"), manifest.name("/rollout")),
        (Words("code's commit"), manifest.name("/commit")),
        (Words("configuration's hash"), manifest.name("/config_sha256")),
    ]
    if config is not None:
        rows += [
            (Name(f"{section}.{key}"), _scalar(config, f"/{section}/{escape_pointer(key)}"))
            for section in ("grpo", "lora")
            for key, value in (config.at(f"/{section}") or {}).items()
            if isinstance(value, str | int | float)
        ]
    rows += [
        (Name(f"{name} version"), Name(f"{name}=={version}"))
        for name, version in (manifest.at("/versions") or {}).items()
        if version is not None
    ]
    return Table((Words("what"), Words("value")), tuple(rows))


def comparison_tables(file: ResultFile) -> list[tuple[str, Table]]:
    """The paired tables of a comparison of two models, with their titles, one a task.

    Gained and lost are the problems that only the second, and only the first, got right; p is
    McNemar's, exact.
    """
    tables = []
    labels = [file.name("/first"), file.name("/second")]
    for task, content in (file.at("/tasks") or {}).items():
        rows: list[tuple[Printable, ...]] = []
        for metric, compared in content["metrics"].items():
            at = f"/tasks/{escape_pointer(task)}/metrics/{escape_pointer(metric)}"
            is_share = "table" in compared
            rows.append(
                (
                    Name(metric),
                    file.figure(f"{at}/first", summary),
                    file.figure(f"{at}/second", summary),
                    file.figure(f"{at}/difference", difference if is_share else change),
                    file.figure(f"{at}/p", p_value),
                    file.figure(f"{at}/table/only_second", count),
                    file.figure(f"{at}/table/only_first", count),
                )
            )
        heads = (Words("metric"), *labels, *map(Words, ("difference", "p", "gained", "lost")))
        tables.append((task, Table(heads, tuple(rows))))
    return tables


def evaluation_tables(file: ResultFile) -> list[tuple[str, Table]]:
    """The metrics of one model's evaluation, with their titles, one table a task."""
    return [
        (
            task,
            Table(
                (Words("metric"), file.name("/label")),
                tuple(
                    (
                        Name(metric),
                        file.figure(
                            f"/tasks/{escape_pointer(task)}/metrics/{escape_pointer(metric)}",
                            summary,
                        ),
                    )
                    for metric, value in content["metrics"].items()
                    if value.get("mean") is not None
                ),
            ),
        )
        for task, content in (file.at("/tasks") or {}).items()
    ]


def flat_table(file: ResultFile, skip: tuple[str, ...] = ("items", "samples")) -> Table:
    """Every number of a result file, one a row, under the place it stands in.

    For the gates' records, whose layout is their writer's.  Lists of per-item records are
    left to the file.
    """
    rows = [
        (Name(_label(pointer)), figure)
        for pointer, figure in _numbers(file, "", file.content, skip)
    ]
    return Table((Words("measured"), Words("value")), tuple(rows[: MAX_CELLS // 2]))


def ladder_table(ladder: ResultFile) -> Table | None:
    """One row a form of the model, one column a measure; None when the file has no such list."""
    found = next(
        (
            (key, value)
            for key, value in ladder.content.items()
            if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value)
        ),
        None,
    )
    if found is None:
        return None
    key, records = found
    at = [f"/{escape_pointer(key)}/{index}" for index in range(len(records))]
    measures = list(
        dict.fromkeys(
            pointer
            for place, record in zip(at, records, strict=True)
            for pointer, _ in _numbers(ladder, "", record, ("items", "samples"), within=place)
        )
    )[: MAX_CELLS // len(records)]
    rows: list[tuple[Printable, ...]] = []
    for place in at:
        numbers = dict(_numbers(ladder, "", ladder.at(place), ("items", "samples"), within=place))
        cells: list[Printable] = []
        cells += [numbers.get(measure) or Missing("–") for measure in measures]
        label = ladder.name(f"{place}/name", f"{place}/label", f"{place}/model", f"{place}/what")
        rows.append((label, *cells))
    heads: list[Printable] = [Words("model")]
    heads += [Name(_label(measure)) for measure in measures]
    return Table(tuple(heads), tuple(rows))


def file_table(files: tuple[PlannedFile, ...]) -> Table:
    """The published files; a size is a link to the very file it is the size of."""
    rows = tuple(
        (
            Name(file.target),
            Words(file.kind),
            Figure(size(file.size), file.target),
            Name(f"sha256:{file.sha256[:16]}"),
        )
        for file in files
    )
    return Table((Words("file"), Words("kind"), Words("size"), Words("hash")), rows)


def _label(pointer: str) -> str:
    return pointer.strip("/").replace("/", " · ")


def _scalar(file: ResultFile, pointer: str) -> Printable:
    if isinstance(file.at(pointer), str):
        return file.name(pointer)
    return file.figure(pointer, plain)


def _numbers(
    file: ResultFile, pointer: str, value: Any, skip: tuple[str, ...], within: str = ""
) -> Iterator[tuple[str, Figure]]:
    """The numbers below `value`, each with its place relative to `within`."""
    show = _how_to_show(pointer, value)
    if show is not None:
        yield pointer, Figure(show, file.published, within + pointer)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in skip:
                step = f"{pointer}/{escape_pointer(str(key))}"
                yield from _numbers(file, step, item, skip, within)


def _how_to_show(pointer: str, value: Any) -> str | None:
    """The printed form of a number, share or difference; None for everything else."""
    shown = None
    if isinstance(value, Mapping):
        if {"hits", "total"} <= value.keys() and value["total"]:
            shown = share(value)
        elif {"mean", "low", "high", "n"} <= value.keys():
            shown = summary(value)
        elif {"value", "low", "high"} <= value.keys():
            shown = difference(value)
    elif isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, int | float):
        is_size = re.search(r"(bytes|size)$", pointer) is not None
        shown = (
            size(int(value))
            if is_size
            else count(value)
            if isinstance(value, int)
            else plain(value)
        )
    return shown

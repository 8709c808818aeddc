"""The card's tables of results, made from result files alone.

Every cell is a `Figure` that the table's file gave, or says that it is missing.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from xmlgrpo_exporter.card.figures import (
    Figure,
    Missing,
    Name,
    Printable,
    ResultFile,
    Table,
    Words,
    escape_pointer,
)
from xmlgrpo_exporter.card.number_format import (
    change,
    count,
    difference,
    p_value,
    plain,
    share,
    size,
    summary,
    verdict,
)
from xmlgrpo_exporter.card.results import RunResults
from xmlgrpo_run.metric_names import metric_names, words_of

HOLDOUT_ROWS = (
    ("strict_accuracy", "right, in the format"),
    ("lenient_accuracy", "right, in any format"),
    ("strict_format", "in the format"),
    ("worked", "shows its working"),
    ("truncated", "cut off"),
    ("no_answer", "no answer"),
)


def holdout_table(manifest: ResultFile) -> Table | None:
    """Held-out results before and after training; None when the run has none."""
    if not isinstance(manifest.at("/holdout/after"), Mapping):
        return None
    told = metric_names(words_of(str(manifest.at("/task"))))  # no sums where none are asked
    rows: list[tuple[Printable, ...]] = [
        (
            Words(label),
            manifest.figure(f"/holdout/before/{key}", share),
            manifest.figure(f"/holdout/after/{key}", share),
        )
        for key, label in HOLDOUT_ROWS
        if key in told and manifest.at(f"/holdout/after/{key}") is not None
    ]
    rows.append(
        (
            Words("tokens a reply, mean"),
            manifest.figure("/holdout/before/mean_tokens", plain),
            manifest.figure("/holdout/after/mean_tokens", plain),
        )
    )
    return Table((Words("held-out problems"), Words("before"), Words("after")), tuple(rows))


def comparison_tables(file: ResultFile) -> list[tuple[str, Table]]:
    """The paired tables of a comparison of two models, with their titles, one a task.

    Gained and lost are the problems that only the second, and only the first, got right; p is
    McNemar's, exact.
    """
    tables = []
    labels = [file.name("/first"), file.name("/second")]
    for task, content in (file.at("/tasks") or {}).items():
        rows: list[tuple[Printable, ...]] = []
        for metric in content["metrics"]:
            at = f"/tasks/{escape_pointer(task)}/metrics/{escape_pointer(metric)}"
            is_share = file.at(f"{at}/table") is not None
            rows.append(
                (
                    Name(metric),
                    file.figure(f"{at}/first", summary),
                    file.figure(f"{at}/second", summary),
                    file.figure(f"{at}/difference", difference if is_share else change),
                    _or_dash(file.figure(f"{at}/p", p_value)),
                    _or_dash(file.figure(f"{at}/table/only_second", count)),
                    _or_dash(file.figure(f"{at}/table/only_first", count)),
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
                    for metric in content["metrics"]
                    if file.at(
                        f"/tasks/{escape_pointer(task)}/metrics/{escape_pointer(metric)}/mean"
                    )
                    is not None
                ),
            ),
        )
        for task, content in (file.at("/tasks") or {}).items()
    ]


def ladder_table(ladder: ResultFile, published: Collection[str]) -> Table:
    """Every form of the model on the same problems; the difference is to the form it is made of.

    Args:
        ladder: the rungs.
        published: the labels of what goes up.  Of the others, those stay that a published one is
            made of, and the base; they are marked.
    """
    measures: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("accuracy", "right", summary),
        ("difference", "change", difference),
        ("p", "p", p_value),
        ("size_bytes", "size", size),
        ("bits_per_weight", "bits a weight", plain),
        ("tokens_per_s", "tokens a second", plain),
        ("peak_mib", "memory, MiB", plain),
        ("passed", "gate", verdict),
    )
    rows = tuple(
        (
            ladder.name(f"{place}/label"),
            _or_dash(ladder.name(f"{place}/against")),
            Words("yes" if ladder.at(f"{place}/label") in published else "no"),
            *(_or_dash(ladder.figure(f"{place}/{key}", show)) for key, _, show in measures),
        )
        for place in (f"/rungs/{index}" for index in shown_rungs(ladder, published))
    )
    heads = ("model", "made of", "published", *(head for _, head, _ in measures))
    return Table(tuple(map(Words, heads)), rows)


def shown_rungs(ladder: ResultFile, published: Collection[str]) -> tuple[int, ...]:
    """The places of the rungs that the card shows; one whose file is not there is none of them."""
    rungs = ladder.at("/rungs") or ()
    shown = {"base", *published}
    for rung in reversed(rungs):  # what a model is made of stands above it
        if rung.get("label") in shown:
            shown.add(str(rung.get("against")))
    return tuple(index for index, rung in enumerate(rungs) if rung.get("label") in shown)


def gate_table(results: RunResults) -> Table | None:
    """What the gates of merge and export measured, and what they allow; None when none ran."""
    gates = [] if results.merge is None else [(results.merge, "merged", "parity", "/parity")]
    if results.check is not None:
        gates += [
            (results.check, file, gate, f"/files/{escape_pointer(file)}/gates/{gate}")
            for file, checked in (results.check.at("/files") or {}).items()
            for gate in checked.get("gates") or {}
        ]
    if not gates:
        return None
    rows = tuple(
        (
            Name(file),
            Words(gate.replace("_", " ")),
            Missing("–") if key is None else Name(key),
            _gate_number(source, f"{place}/found", key),
            _gate_number(source, f"{place}/limit", key),
            source.figure(f"{place}/passed", verdict),
        )
        for source, file, gate, place in gates
        for key in _limited(source, place) or (None,)
    )
    heads = ("file", "gate", "measure", "found", "allowed", "verdict")
    return Table(tuple(map(Words, heads)), rows)


def _or_dash(value: Figure | Name | Missing) -> Figure | Name | Missing:
    """A dash for what does not apply, such as the change of what is made of nothing."""
    return Missing("–") if isinstance(value, Missing) else value


def _limited(source: ResultFile, place: str) -> list[str]:
    """The numbers of a gate that its limits name."""
    found, limit = source.at(f"{place}/found") or {}, source.at(f"{place}/limit") or {}
    return [key for key, value in found.items() if key in limit and isinstance(value, int | float)]


def _gate_number(source: ResultFile, place: str, key: str | None) -> Figure | Missing:
    return Missing("–") if key is None else source.figure(f"{place}/{escape_pointer(key)}", plain)

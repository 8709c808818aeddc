"""The card's tables of how the run was done: training, and the files that are published.

Every cell is a `Figure` that the table's file gave, or says that it is missing.
"""

from xmlgrpo_exporter.card.figures import (
    Figure,
    Name,
    Printable,
    ResultFile,
    Table,
    Words,
    escape_pointer,
)
from xmlgrpo_exporter.card.number_format import count, plain, size
from xmlgrpo_exporter.upload.files import PlannedFile


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


def _scalar(file: ResultFile, pointer: str) -> Printable:
    if isinstance(file.at(pointer), str):
        return file.name(pointer)
    return file.figure(pointer, plain)

"""Which items a task asks: a file, named by its digest, or a data set of the Hub, by its commit.

Without this a result does not say what it is a result on, and two results under one name could be
of different items.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task

GSM8K_IDS = ("gsm8k", "openai/gsm8k")
"""Names under which stock tasks ask the Hub for GSM8K."""


def variable_of(task: str) -> str:
    """The environment variable that names a folder of a task's rows: `GSM8K_DIR`."""
    return f"{task.upper().replace('-', '_')}_DIR"


@dataclass(frozen=True, slots=True)
class GradedData:
    """The items of a task.

    Attributes:
        source: whether they come from the Hub or from a file.
        name: the data set's id, or the file's name.
        revision: the data set's commit; None where the task names none.
        sha256: of the file.
        rows: how many there are, of which `--limit` may have asked the first ones only; None
            before they are loaded.
    """

    source: Literal["hub", "files"]
    name: str
    revision: str | None = None
    sha256: str | None = None
    rows: int | None = None


def local_items(config: Mapping[str, Any], data: Path | None) -> Path | None:
    """The file that a task reads; None when it asks the Hub.

    Args:
        config: the task's YAML.
        data: what the user named; else the environment does.

    Raises:
        UserError: a name with nothing behind it.
    """
    if config.get("dataset_path") == "json":
        files = (config.get("dataset_kwargs") or {}).get("data_files")
        test = files.get(config.get("test_split")) if isinstance(files, Mapping) else files
        return Path(test) if isinstance(test, str) and Path(test).is_file() else None
    variable = (config.get("metadata") or {}).get("data_variable")
    if config.get("dataset_path") in GSM8K_IDS:
        variable = variable_of("gsm8k")
    if variable is None:
        return None
    named = os.environ.get(variable)
    place = data or (Path(named) if named else None)
    if place is None:
        return None
    file = place if place.is_file() else place / "test.jsonl"
    if not file.is_file():
        asked = f"--data {data}" if data else f"{variable}={named}"
        raise UserError(f"{asked}: expected {file} or a .jsonl file of test items, found neither")
    return file


def graded_data(config: Mapping[str, Any], data: Path | None) -> GradedData:
    """What a task asks, as far as its YAML says."""
    file = local_items(config, data)
    if file is not None:
        return GradedData("files", file.name, sha256=sha256(file.read_bytes()).hexdigest())
    metadata = config.get("metadata") or {}
    if "rewards_task" not in metadata:
        kwargs = config.get("dataset_kwargs") or {}
        name = str(config.get("dataset_path"))
        return GradedData("hub", name, revision=kwargs.get("revision"))
    if metadata.get("dataset"):
        return GradedData("hub", metadata["dataset"])
    task = get_task(metadata["rewards_task"])
    return GradedData("hub", task.dataset, revision=task.dataset_revision)


def digest_of(data: Sequence[GradedData]) -> str | None:
    """One digest for all tasks' files; None when all ask the Hub."""
    digests = sorted({one.sha256 for one in data if one.sha256})
    if len(digests) < 2:
        return digests[0] if digests else None
    return sha256("\n".join(digests).encode()).hexdigest()


def record(data: GradedData, rows: int | None) -> dict[str, Any]:
    """The data of a task in a result; JSON values."""
    return asdict(replace(data, rows=rows))

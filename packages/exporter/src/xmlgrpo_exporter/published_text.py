"""Results and configs as they are published: the same values, without this machine's paths."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# two names at least: a lone `/answer` in a text is no path
ABSOLUTE = re.compile(r"(?:/[^/\n]+){2,}/?|[A-Za-z]:[\\/][^\n]*")


def without_paths(value: Any) -> Any:
    """A JSON value in which every string that is an absolute path is cut to its last name.

    A home folder names its owner, and a path of this machine means nothing elsewhere.
    """
    if isinstance(value, str):
        is_path = ABSOLUTE.fullmatch(value) is not None
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if is_path else value
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def to_bytes(value: Any) -> bytes:
    """A JSON value as a file's content."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def adapter_config(path: Path, base_name: str | None) -> bytes:
    """The adapter's config with the base under the name that others know it by."""
    config = without_paths(json.loads(path.read_text(encoding="utf-8")))
    if base_name is not None:
        config["base_model_name_or_path"] = base_name
    return to_bytes(config)

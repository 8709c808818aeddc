"""Results and configs as they are published: the same values, without this machine's paths."""

import json
import re
from collections.abc import Mapping
from typing import Any

from xmlgrpo_exporter.merge.tokenizer import LOCAL_NOTES

# two names at least: a lone `/answer` in a text is no path
ABSOLUTE = re.compile(r"(?:/[^/\n]+){2,}/?|[A-Za-z]:[\\/][^\n]*")


def without_paths(value: Any) -> Any:
    """A JSON value in which every absolute path, and every one out of the run, is its last name.

    A home folder names its owner, and a path of this machine means nothing elsewhere.
    """
    if isinstance(value, str):
        is_path = ABSOLUTE.fullmatch(value) or value.startswith("../")
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if is_path else value
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def to_bytes(value: Any) -> bytes:
    """A JSON value as a file's content."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def published_config(name: str, content: Any, base_name: str | None) -> Any:
    """An artefact's config as it is published.

    Args:
        name: of the file.
        content: the file, read.
        base_name: what others know the base model by; None where nobody recorded it.
    """
    config = without_paths(content)
    if not isinstance(config, dict):
        return config
    if name == "adapter_config.json" and base_name is not None:
        return {**config, "base_model_name_or_path": base_name}
    if name == "tokenizer_config.json":
        return {key: value for key, value in config.items() if key not in LOCAL_NOTES}
    return config

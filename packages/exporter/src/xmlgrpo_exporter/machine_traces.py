"""What files say of the machine that they were made on, which leaves them before they leave it.

A home folder names its owner, and a path of this machine means nothing elsewhere.
"""

import re
from collections.abc import Mapping
from typing import Any

# two names at least: a lone `/answer` in a text is no path
ABSOLUTE = re.compile(r"(?:/[^/\n]+){2,}/?|[A-Za-z]:[\\/][^\n]*")
NOTES = ("vocab_file", "is_local", "local_files_only", "name_or_path")  # transformers' own


def without_paths(value: Any) -> Any:
    """A JSON value in which every absolute path, and every one out of the run, is its last name."""
    if isinstance(value, str):
        is_path = ABSOLUTE.fullmatch(value) or value.startswith("../")
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if is_path else value
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def without_notes(tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` without what transformers notes of where it was read from."""
    return {key: value for key, value in tokenizer_config.items() if key not in NOTES}

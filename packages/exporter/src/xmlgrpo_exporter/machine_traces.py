"""What files say of the machine that they were made on, which leaves them before they leave it.

A home folder names its owner, and a path of this machine means nothing elsewhere.
"""

import re
from collections.abc import Mapping
from typing import Any

KEY = re.compile(r"[\w.-]{1,64}=")  # of an override
ELSEWHERE = re.compile(r"[A-Za-z]:[\\/]|\\\\[\w.-]+\\|~[\w.-]*[\\/]")  # a drive, a host, a home
NOTES = ("vocab_file", "is_local", "local_files_only", "name_or_path")  # transformers' own


def without_paths(value: Any) -> Any:
    """A JSON value in which every absolute path, and every one out of the run, is its last name."""
    if isinstance(value, str):
        return re.split(r"[\\/]", value.rstrip("\\/ \n"))[-1] if _is_path(value.strip()) else value
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return value


def _is_path(text: str) -> bool:
    if "\n" in text:
        return False
    text = KEY.sub("", text, count=1).removeprefix("file:")
    names = [name for name in re.split(r"[\\/]", text) if name]
    # two names at least: a lone `/answer` in a text is no path
    is_absolute = text.startswith("/") and len(names) > 1
    return is_absolute or ".." in names[:-1] or ELSEWHERE.match(text) is not None


def without_notes(tokenizer_config: Mapping[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` without what transformers notes of where it was read from."""
    return {key: value for key, value in tokenizer_config.items() if key not in NOTES}

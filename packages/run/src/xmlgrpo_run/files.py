"""Files of a run: JSON with errors that name the file, and writing that is whole or not at all.

What a run goes on from, and what its numbers are taken from, is sealed: the JSON object holds the
SHA-256 of its other entries, so that what a disk, a copy or an editor has changed is not read.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import MAX_JSON_BYTES, MAX_JSON_VALUES, check_json
from xmlgrpo_run.disk import writing

TOKENIZER = "tokenizer.json"
MAX_TOKENIZER_BYTES, MAX_TOKENIZER_VALUES = 48 << 20, 2_500_000  # Gemma 3: 33 MB, 1.8 million
# what libraries read whole beside JSON: templates, vocabularies, merges
MAX_OTHER_BYTES = {".jinja": 1 << 20, ".txt": MAX_TOKENIZER_BYTES, ".model": MAX_TOKENIZER_BYTES}
CONFIG, COUNTED = "config.json", re.compile(r"(?:^|_)(?:layers?|experts)$")
MOST_LAYERS = 1_000  # or experts; each is made before a weight is read

ADAPTER_CONFIG = "adapter_config.json"
PATTERN_CPU_S = 0.3  # for all patterns of an adapter; one without backtracking takes microseconds
# peft tries its patterns on the name of every module, in Python and without an end
_TRY_PATTERNS = r"""
import json, re, signal, sys
signal.setitimer(signal.ITIMER_VIRTUAL, float(sys.argv[1]))  # which ends the process
parts = "self_attn.q_proj self_attn.o_proj mlp.down_proj linear_attn.in_proj_qkvz lm_head".split()
names = [f"{start}.layers.{layer}.{part}" for part in parts for layer in (0, 27)
         for start in ("model", "model.language_model", "base_model.model.model")]
for pattern in json.load(sys.stdin):
    for name in names:
        re.match(rf"(.*\.)?({pattern})$", name)
"""

SEAL = "sha256_of_the_rest"  # the key of a JSON object's own digest


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, which may come from anywhere; a sealed one without its seal.

    Raises:
        UserError: missing, unreadable, not a JSON object, more than such a file holds, or sealed
            and not what was written.
    """
    return json_object(_raw(path), path)


def read_sealed(path: Path) -> dict[str, Any]:
    """As `read_json`, of a file that must be sealed."""
    return json_object(_raw(path), path, is_sealed=True)


def json_object(raw: bytes, path: Path, *, is_sealed: bool = False) -> dict[str, Any]:
    """As `read_json`, or as `read_sealed`, of a file that has been read."""
    content = _object(raw, path)
    return unsealed(path, content) if is_sealed or SEAL in content else content


def unsealed(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """A sealed JSON object of a file, without its seal.

    Raises:
        UserError: it has no seal, or is not what was sealed.
    """
    seal = content.pop(SEAL, None)
    if seal != _digest(content):
        why = f"it has no {SEAL}" if seal is None else "its sha256 is not that of its content"
        raise UserError(
            f"{path} is damaged or was changed: {why}; restore it from a copy, or make it again"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _object(raw: bytes, path: Path) -> dict[str, Any]:
    _check(raw, path)
    try:
        content = json.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); restore it or make it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}")
    if path.name == ADAPTER_CONFIG:
        check_patterns(content, str(path))
    return content


def check_small_files(folder: Path) -> None:
    """Look at a model's files but its weights, before a library reads them without limits.

    Raises:
        UserError: one holds more than such a file does, or is nested too deeply.
    """
    for path in sorted(folder.glob("*.json")):
        _check(raw := _raw(path), path)
        if path.name in {CONFIG, ADAPTER_CONFIG}:
            _check_counts(_object(raw, path), path)
    for ending, most in MAX_OTHER_BYTES.items():
        for path in [*folder.glob(f"*{ending}"), *folder.glob(f"additional_*/*{ending}")]:
            if path.is_file() and path.stat().st_size > most:
                raise UserError(f"cannot read {path}: expected at most {most:,} bytes, got more")


def check_patterns(adapter: Mapping[str, Any], named: str) -> None:
    """See that an adapter's regular expressions are tried on names of modules without backtracking.

    Args:
        adapter: fields of `peft.LoraConfig`.
        named: what holds them, for the error.

    Raises:
        UserError: they take over `PATTERN_CPU_S`.
    """
    fields = (
        "target_modules",
        "exclude_modules",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
    )
    written = {field: adapter.get(field) or () for field in fields}
    texts = [[value] if isinstance(value, str) else value for value in written.values()]
    listed = [text for text in texts if isinstance(text, list | dict)]
    # a plain name, and what is no expression at all, is answered by peft at once
    odd = [str(one) for text in listed for one in text if re.search(r"[*+?{]", str(one))]
    if not odd:
        return
    limit = str(PATTERN_CPU_S)
    command = [sys.executable, "-I", "-S", "-c", _TRY_PATTERNS, limit]
    tried = subprocess.run(
        command, input=json.dumps(odd).encode(), capture_output=True, check=False
    )
    if tried.returncode < 0:
        raise UserError(
            f"{named}: {odd[0][:100]!r}{' and others' if odd[1:] else ''}: a pattern that takes "
            f"over {PATTERN_CPU_S} s on a few names of modules, so peft would not end; write it "
            "without a repeat in a repeat, or list the names"
        )


def _check_counts(config: Mapping[str, Any], path: Path) -> None:
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_counts(value, path)
        elif COUNTED.search(key) and isinstance(value, int) and value > MOST_LAYERS:
            raise UserError(f"{path}: {key}: expected at most {MOST_LAYERS:,}, got {value}")


def _raw(path: Path) -> bytes:
    return read_bytes(path, _most(path)[0])


def _check(raw: bytes, path: Path) -> None:
    try:
        check_json(raw, *_most(path))
    except ValueError as error:
        raise UserError(f"cannot read {path}: {error}; restore it or make it again") from None


def _most(path: Path) -> tuple[int, int]:
    """Bytes and values that a JSON file may have; a tokenizer has more than others."""
    is_tokenizer = path.name == TOKENIZER
    return (
        (MAX_TOKENIZER_BYTES, MAX_TOKENIZER_VALUES)
        if is_tokenizer
        else (MAX_JSON_BYTES, MAX_JSON_VALUES)
    )


def read_bytes(path: Path, most: int) -> bytes:
    """The first bytes of a file: all of them, or one more than `most`.

    Raises:
        UserError: missing, unreadable, or no file.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UserError(f"cannot read {path}: it is not a file")
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise UserError(f"expected {path}, found none; check the folder's name") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal: the whole file or none."""
    write_json(path, sealed(content))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with its seal."""
    return {**content, SEAL: _digest(content)}


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON: the whole file or none, and no NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line of JSON per row: the whole file or none."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8: the whole file or none."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name, which becomes `path` at the end.

    Until then `path` is what it was before.  After an error nothing of the new one is left; what a
    killed process left of its own is removed by the next one that writes the same path.

    Yields:
        The temporary name beside `path`: nothing is there yet.  Where nothing is made there, `path`
        stays as it is.

    Raises:
        UserError: the disk is full or fails, or a file was to replace a folder.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        remove(partial)
        try:
            yield partial
            if partial.exists():
                _to_disk(partial)
                if path.is_dir():
                    if not partial.is_dir():  # nobody who names a folder wants it gone
                        raise UserError(f"{path} is a folder; expected the name of a file")
                    remove(path)
                partial.replace(path)
        finally:
            remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Make sure that the bytes are on the disk before the name says that they are."""
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def _remove_leftovers(path: Path) -> None:
    partial = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.partial")
    for left in path.parent.iterdir():
        if (found := partial.fullmatch(left.name)) and not _is_running(int(found[1])):
            remove(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True

"""The fields of trl's and peft's dataclasses, written down: known without importing the libraries.

Importing trl and peft takes many seconds, and a typo should be refused before.
`recorded_fields.json` holds every field's name, type and default, for the versions of both locks.
A test compares it with the installed libraries (`ci/remake/recorded_fields.py` writes
what these say); where other versions are installed, the libraries themselves are read.
"""

import dataclasses
import json
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal  # noqa: F401  # the recorded types are read with these names

from xmlgrpo_run.checkout import installed_version

FILE = Path(__file__).with_suffix(".json")
# dataclass -> the module that has it, and the packages whose versions decide its fields
SOURCES = {
    "GRPOConfig": ("trl", ("trl", "transformers")),
    "LoraConfig": ("peft", ("peft",)),
}


@cache
def library_schema(name: str) -> type:
    """A dataclass with the fields of `trl.GRPOConfig` or `peft.LoraConfig`.

    A stand-in that is made from the file, or the library's own class where the file is of other
    versions.  In the stand-in an enum is its values as texts, and what only an object of the
    library can be is left open or left out.
    """
    record = _nearest_record(name)
    if record["versions"] != installed_versions(name):
        return library_class(name)
    fields = [
        (field, described["type"], _default(described))
        for field, described in record["fields"].items()
    ]
    # the types are texts: `typing.get_type_hints` reads them with this module's names
    return dataclasses.make_dataclass(
        name, fields, kw_only=True, namespace={"__module__": __name__}
    )


def recorded_defaults(name: str) -> dict[str, Any]:
    """Field -> default, as recorded of the installed version; of others, of the first recorded."""
    fields = _nearest_record(name)["fields"]
    return {field: one["default"] for field, one in fields.items() if "default" in one}


def _nearest_record(name: str) -> dict[str, Any]:
    """The record of the installed versions; else the first."""
    recorded: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))[name]
    installed = installed_versions(name)
    return next((one for one in recorded if one["versions"] == installed), recorded[0])


def library_class(name: str) -> type:
    """The library's own dataclass; imports the library."""
    module, _ = SOURCES[name]
    own: type = getattr(import_module(module), name)
    return own


def installed_versions(name: str) -> dict[str, str | None]:
    """The versions that decide the fields of a dataclass, without a build's suffix (`+cpu`)."""
    found = {package: installed_version(package) for package in SOURCES[name][1]}
    return {package: text and text.partition("+")[0] for package, text in found.items()}


def _default(described: dict[str, Any]) -> Any:
    value = described.get("default", dataclasses.MISSING)
    if isinstance(value, list | dict):
        return dataclasses.field(default_factory=lambda: value)
    return dataclasses.field(default=value)

"""The fields of trl's and peft's dataclasses, written down: known without importing the libraries.

Importing trl and peft takes many seconds, and a typo should be told before.  `recorded_fields.json`
holds every field's name, type and default, for the versions that it names.  A test compares it
with the installed libraries; where other versions are installed, the libraries themselves are read.

    python -m xmlgrpo_trainer.config.recorded_fields    # after a change of versions
"""

import dataclasses
import json
import typing
from enum import Enum
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union

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
    recorded = json.loads(FILE.read_text(encoding="utf-8"))[name]
    if recorded["versions"] != _versions(name):
        return library_class(name)
    fields = [(field, said["type"], _default(said)) for field, said in recorded["fields"].items()]
    # the types are texts: `typing.get_type_hints` reads them with this module's names
    return dataclasses.make_dataclass(
        name, fields, kw_only=True, namespace={"__module__": __name__}
    )


def library_class(name: str) -> type:
    """The library's own dataclass; imports the library."""
    module, _ = SOURCES[name]
    found: type = getattr(import_module(module), name)
    return found


def _versions(name: str) -> dict[str, str | None]:
    _, packages = SOURCES[name]
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            # without a build's own suffix, as in 2.13.0+cpu
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = None
    return found


def _default(said: dict[str, Any]) -> Any:
    if "default" not in said:
        return dataclasses.field()
    value = said["default"]
    if isinstance(value, list | dict):
        return dataclasses.field(default_factory=lambda: value)
    return dataclasses.field(default=value)


def read_library(name: str) -> dict[str, Any]:
    """What the file should say of a dataclass: versions, and each field's type and default."""
    schema = library_class(name)
    hints = typing.get_type_hints(schema)
    fields = {}
    for field in dataclasses.fields(schema):
        if field.init:
            said: dict[str, Any] = {"type": type_text(hints[field.name])}
            if field.default is not dataclasses.MISSING:
                default = field.default
                said["default"] = default.value if isinstance(default, Enum) else default
            fields[field.name] = said
    return {"versions": _versions(name), "fields": fields}


def type_text(hint: Any) -> str:
    """A type as text, in terms of what YAML can hold.

    An enum beside `str` is the enum: the library turns the text into it, and refuses others.  A
    dataclass is a mapping; its own keys are the library's to check.
    """
    if hint in {NoneType, Any}:
        return "None" if hint is NoneType else "Any"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {Union, UnionType}:
        has_enum = any(isinstance(part, type) and issubclass(part, Enum) for part in arguments)
        parts = [part for part in arguments if not (has_enum and part is str)]
        # sorted: `typing` gives an equal union that it has seen before, in that one's order
        texts = sorted(set(map(type_text, parts)), key=lambda text: (text == "None", text))
        return " | ".join(texts)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(type_text, arguments))}]"
    if issubclass(hint, Enum):
        return f"Literal[{', '.join(repr(member.value) for member in hint)}]"
    return hint.__name__ if hint.__module__ == "builtins" else "dict[str, Any]"


def file_text() -> str:
    """The whole file, one field a line, as the installed libraries are; imports them."""
    parts = []
    for name in SOURCES:
        said = read_library(name)
        fields = ",\n".join(
            f"   {json.dumps(field)}: {json.dumps(value)}"
            for field, value in said["fields"].items()
        )
        versions = json.dumps(said["versions"])
        parts.append(
            f' "{name}": {{\n  "versions": {versions},\n  "fields": {{\n{fields}\n  }}\n }}'
        )
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(file_text(), encoding="utf-8")

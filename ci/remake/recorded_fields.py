"""Write down the fields of trl's and peft's dataclasses: after a change of their versions.

    python -m ci.remake.recorded_fields    # in an environment of each lock

What is recorded of other versions stays; take out by hand those that no lock has any more.
"""

import dataclasses
import json
import typing
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union

from xmlgrpo_trainer.config.recorded_fields import (
    FILE,
    SOURCES,
    installed_versions,
    library_class,
)


def read_library(name: str) -> dict[str, Any]:
    """What the file should hold of a dataclass: versions, and each field's type and default."""
    schema = library_class(name)
    hints = typing.get_type_hints(schema)
    fields = {}
    for field in dataclasses.fields(schema):
        if field.init:
            described: dict[str, Any] = {"type": type_text(hints[field.name])}
            if field.default is not dataclasses.MISSING:
                default = field.default
                described["default"] = default.value if isinstance(default, Enum) else default
            fields[field.name] = described
    return {"versions": installed_versions(name), "fields": fields}


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
    """The whole file, one field a line, with what the installed libraries say; imports them."""
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    parts = []
    for name in SOURCES:
        own = read_library(name)
        others = [record for record in recorded[name] if record["versions"] != own["versions"]]
        records = sorted([own, *others], key=lambda record: str(record["versions"]))
        parts.append(f' "{name}": [{", ".join(map(record_text, records))}]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def record_text(record: dict[str, Any]) -> str:
    """A dataclass as some versions have it."""
    fields = ",\n".join(
        f"   {json.dumps(field)}: {json.dumps(value)}" for field, value in record["fields"].items()
    )
    versions = json.dumps(record["versions"])
    return f'{{\n  "versions": {versions},\n  "fields": {{\n{fields}\n  }}\n }}'


if __name__ == "__main__":
    FILE.write_text(file_text(), encoding="utf-8")

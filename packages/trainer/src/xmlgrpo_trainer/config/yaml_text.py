"""YAML as configurations use it: safe, `1e-5` is a number, and a repeated key is an error."""

import re
from typing import Any

import yaml

from xmlgrpo_rewards.errors import UserError


class Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-5` is a number and a repeated key is an error."""


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads back: text that looks like `1e5` gets quotes."""


# YAML 1.1 reads 1e-5 as a string, for want of a point; everyone who writes it means a number
for _kind in (Loader, Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _mapping_without_repeats(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} twice", problem_mark=node.start_mark)
    return dict(loader.construct_mapping(node, deep=True))


Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML text; `where` names it in the error.

    Raises:
        UserError: the text is not YAML, or repeats a key.
    """
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506  # Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}{line}: not valid YAML: {problem}") from None


def write_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` reads back, keys in their order."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)

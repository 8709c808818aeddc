"""YAML as a configuration may be written: no key twice, no tag that runs code, of bounded size."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from xmlgrpo_rewards.errors import UserError

# of YAML text, aliases written out; PyYAML reads some 50 kB a second
MAX_YAML_BYTES, MAX_YAML_VALUES, MAX_YAML_DEPTH = 50_000, 10_000, 32
MAX_DIGITS = 100
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-5` is a number and a repeated key is an error."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # at once: PyYAML looks ahead from each bracket of the last thousand signs, 0.9 s in all
        self.depth += 1
        if self.depth > MAX_YAML_DEPTH:
            problem = f"nested more than {MAX_YAML_DEPTH} deep"
            mark = parent.start_mark if parent else None
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # PyYAML's own signature
        keys = set()
        for part, _ in node.value:  # before merge keys (`<<`) bring more, which may be overridden
            if not isinstance(part, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no text", problem_mark=part.start_mark)
            if part.tag == MERGE:
                continue
            key = self.construct_object(part)
            if key in keys:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} twice", problem_mark=node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back: text that looks like `1e5` gets quotes."""


# YAML 1.1 reads 1e-5 as a string, for want of a point; everyone who writes it means a number
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def write_yaml(values: Mapping[str, Any]) -> str:
    """YAML text that `parse_yaml` reads back, in the order of the values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML text; `where` names it in the error.

    Raises:
        UserError: the text is not YAML, repeats a key, or is more than a configuration.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_YAML_BYTES:
        raise UserError(f"{where}: expected at most {MAX_YAML_BYTES:,} bytes of YAML, got more")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{where}{line}: not valid YAML: {problem}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # PyYAML's own, about what a tag (`!!int ''`, `!!bool maybe`) or a date cannot mean
        raise UserError(f"{where}: not valid YAML: {type(error).__name__}: {error}") from None


def _measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]]) -> tuple[int, int]:
    """Values and depth of a part of YAML with its aliases written out, refused where too large."""
    if node in known:
        return known[node]
    if isinstance(node, yaml.ScalarNode):
        # a larger number is refused by whatever setting gets it; this one cannot even be printed
        is_odd = node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS
        if is_odd:
            problem = f"a number of over {MAX_DIGITS} digits"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return known.setdefault(node, (1, 1))
    known[node] = (0, MAX_YAML_DEPTH)  # met again while it is measured, it holds itself
    pairs = isinstance(node, yaml.MappingNode)
    parts = [part for pair in node.value for part in pair] if pairs else node.value
    measured = [_measure(part, known) for part in parts]
    values = 1 + sum(count for count, _ in measured)
    depth = 1 + max((depth for _, depth in measured), default=0)
    if values > MAX_YAML_VALUES or depth > MAX_YAML_DEPTH:
        problem = (
            f"with its aliases written out it has over {MAX_YAML_VALUES:,} values, or is nested "
            f"more than {MAX_YAML_DEPTH} deep"
        )
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    known[node] = (values, depth)
    return values, depth

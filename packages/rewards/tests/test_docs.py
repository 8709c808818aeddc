"""The examples in the documents run, and print what the documents say."""

import doctest
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).parents[1]
DOCUMENTS = [PACKAGE / "README.md", PACKAGE.parents[1] / "docs" / "add-a-task.md"]
# a path of a file, where the document names one, and what stands in it
PYTHON = re.compile(r"^(?:`([\w/.-]+)`:\n\n)?```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

LINKED = re.compile(r"\]\((examples/\w+\.py)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_run_and_print_what_is_shown(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = document.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    linked = [(name, (document.parent / name).read_text("utf-8")) for name in LINKED.findall(text)]
    for path, code in [*PYTHON.findall(text), *linked]:
        module = ModuleType(_module_name(path))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, document.name, "exec"), module.__dict__)  # noqa: S102 - our own documents
        names |= module.__dict__
    examples = doctest.DocTestParser().get_doctest(text, names, document.name, str(document), 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.attempted >= 4
    assert result.failed == 0


def _module_name(path: str) -> str:
    """The module that a file of this package would be."""
    place = path.partition("/src/")[2].removesuffix(".py").removesuffix("/__init__")
    return place.replace("/", ".") or "example"


def test_the_readme_counts_what_there_is() -> None:
    from xmlgrpo_rewards.hacks import HACKS, hostile_texts

    text = DOCUMENTS[0].read_text(encoding="utf-8").replace("\n", " ")
    assert f"{len(HACKS)} known hacks" in text
    assert f"{len(hostile_texts(1_000))} hostile completions" in text

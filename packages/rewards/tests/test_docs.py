"""The examples in the documents run, and print what the documents say."""

import doctest
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
DOCUMENTS = [PACKAGE / "README.md", PACKAGE.parents[1] / "docs" / "add-a-task.md"]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_run_and_print_what_is_shown(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "example"}
    for code in PYTHON.findall(text):
        exec(compile(code, document.name, "exec"), names)  # noqa: S102 - our own documents
    examples = doctest.DocTestParser().get_doctest(text, names, document.name, str(document), 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.attempted >= 4
    assert result.failed == 0


def test_the_readme_counts_what_there_is() -> None:
    from xmlgrpo_rewards.hacks import HACKS
    from xmlgrpo_rewards.hostile import hostile_texts

    text = DOCUMENTS[0].read_text(encoding="utf-8").replace("\n", " ")
    assert f"{len(HACKS)} known hacks" in text
    assert f"{len(hostile_texts(1_000))} hostile completions" in text

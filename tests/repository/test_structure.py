"""How the repository is built: no circle, no long chain, no crowded folder, true maps."""

import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("packages/*/src", "packages/*/tests", "bench", "ci", "recipes", "tests")
PACKAGES = sorted(path.name for path in ROOT.glob("packages/*/src/xmlgrpo_*"))
LONGEST_CHAIN, LARGEST_FOLDER = 10, 12
MAPS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
MAPS += sorted([*ROOT.glob("bench/*.md"), *ROOT.glob("recipes/*/*.md")])
EXAMPLE = "weekday"  # the task that docs/add-a-task.md has its reader write
NAMED = re.compile(r"`((?:packages|docs|configs|ci|bench|recipes|tests|eval_tasks)/[\w./-]+\.\w+)`")
IN_A_PACKAGE = re.compile(
    r"`(?:xmlgrpo_)?((?:rewards|run|gguf|rollout|trainer|evaluator|exporter|tasks|viewer)/[\w/]+\.py)`"
)
STARTED = re.compile(r"python -m ((?:ci|bench|recipes)\.[\w.]*\w)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Every module of ours with those of ours that it imports."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def longest_chain(imports: dict[str, set[str]]) -> list[str]:
    """The longest chain of imports; a circle raises `graphlib.CycleError`."""
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(imports).static_order():
        below = max((chains[n] for n in imports[name]), key=len, default=[])
        chains[name] = [name, *below]
    return max(chains.values(), key=len)


def test_files_import_in_short_chains_and_no_circle(imports: dict[str, set[str]]) -> None:
    chain = longest_chain(imports)
    assert len(imports) > 150
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


def test_no_folder_is_crowded() -> None:
    modules = [
        path
        for room in ROOMS
        for path in ROOT.glob(f"{room}/**/*.py")
        if path.name != "__init__.py"
    ]
    assert len(modules) > 500
    crowded = {f: n for f, n in Counter(p.parent for p in modules).items() if n > LARGEST_FOLDER}
    assert crowded == {}


@pytest.mark.parametrize("page", MAPS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [ROOT / name for name in NAMED.findall(text) if "*" not in name]
    named += [ROOT / f"{name.replace('.', '/')}.py" for name in STARTED.findall(text)]
    named += [
        ROOT / "packages" / package / "src" / f"xmlgrpo_{package}" / rest
        for package, _, rest in (name.partition("/") for name in IN_A_PACKAGE.findall(text))
    ]
    named += [page.parent / link for link in LINK.findall(re.sub(r"`[^`]*`", "", text))]
    missing = [str(path) for path in named if not path.exists()]
    assert [path for path in missing if EXAMPLE not in path] == []


def test_what_is_tested_at_a_terminal_stands_where_its_session_looks() -> None:
    """`nox -s terminal` collects one folder: a test with its mark elsewhere would never run."""
    tests = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("packages/*/tests/**/test_*.py")]
    marked = {path for path in tests if "pytest.mark." + "terminal" in path.read_text("utf-8")}
    assert marked
    assert {path.parent for path in marked} == {ROOT / "tests" / "terminal"}

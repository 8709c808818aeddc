"""README, docs, messages: both languages say the same, every command exists, every anchor too."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(
        page
        for room in ("packages", "bench", "recipes")
        for page in ROOT.glob(f"{room}/**/README.md")
    ),
]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = {*re.findall(r"^([A-Z]\w*) +\?=", MAKEFILE, re.MULTILINE), "RUN", "CMAKE_ARGS"}
SESSIONS = (ROOT / "noxfile.py").read_text(encoding="utf-8")
SCRIPTS = {
    name
    for path in ROOT.glob("packages/*/pyproject.toml")
    for name in re.findall(r"^(xmlgrpo-[\w-]+) = ", path.read_text(encoding="utf-8"), re.MULTILINE)
}
PACKAGES = {f"xmlgrpo-{path.name}" for path in ROOT.glob("packages/*")}
COMMANDS = SCRIPTS | PACKAGES | {"xmlgrpo-taskset"}
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for folder in ("packages/*/src", "bench", "recipes", "ci")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
)
MOST_WORDS = 12_000
OTHER_TOOLS = ("accelerate", "trl", "llama-", "lm_eval", "trackio", "logdir", "sbatch", "--host")


def sections(text: str) -> list[tuple[str, str]]:
    """The depth of each heading with what stands under it."""
    plain = BLOCK.sub(lambda found: found[0].replace("#", "\0"), text)
    parts = re.split(r"^(#+) .*$", plain, flags=re.MULTILINE)
    depths, texts = ["", *parts[1::2]], [part.replace("\0", "#") for part in parts[::2]]
    return list(zip(depths, texts, strict=True))


def facts(text: str) -> dict[str, Counter[str]]:
    """What must be the same in every language."""
    prose = BLOCK.sub("", text)
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    bare = LINK.sub("", CODE.sub("", prose))
    return {
        "commands": Counter(map(command, lines)),
        "code": Counter(CODE.findall(prose)),
        "links": Counter(link for link in LINK.findall(prose) if "README" not in link),
        "numbers": Counter(NUMBER.findall(bare)),
    }


def command(line: str) -> str:
    """A command without its comment; of a line of a tree, the name."""
    if line.startswith(("make ", ".venv/")):
        return re.sub(r"\s+# .*", "", line)
    return " ".join(line.split()[:1])


def test_both_languages_have_the_same_headings_commands_and_numbers() -> None:
    english, chinese = (sections(page.read_text(encoding="utf-8")) for page in (ENGLISH, CHINESE))
    assert [depth for depth, _ in english] == [depth for depth, _ in chinese]
    for (_, here), (_, there) in zip(english, chinese, strict=True):
        assert facts(here) == facts(there)


def messages(module: Path) -> list[str]:
    """Every text of a module but docstrings, and what stands under a usage line, which names it."""
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    usage = {"prog", "description", "epilog", "help"}
    under_usage = [
        *(node.value for node in nodes if isinstance(node, ast.keyword) and node.arg in usage),
        *(n.value for n in nodes if isinstance(n, ast.Assign) and ast.unparse(n).startswith("EPI")),
    ]
    left_out = {part for node in under_usage for part in ast.walk(node)}
    left_out |= {node.value for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and node not in left_out]
    return [node.value for node in texts if isinstance(node.value, str)]


@pytest.mark.parametrize("package", sorted(ROOT.glob("packages/*/src/*")), ids=lambda it: it.name)
def test_messages_name_commands_as_they_are_typed(package: Path) -> None:
    tools = "|".join((*SCRIPTS, "(?<!-m )pip install", "hf auth", "wandb login", "lm_eval ls"))
    bare = re.compile(rf"(?<![\w/])(?:{tools})(?![\w-])")
    made = re.compile(r"(?<![\w-])make ([a-z-]+)(?= [A-Z_]+=)")
    for module in package.rglob("*.py"):
        for text in messages(module):
            assert not bare.search(text), f"{module}: {text!r}"
            assert set(made.findall(text)) <= TARGETS, f"{module}: {text!r}"


def commands(page: Path) -> list[str]:
    """Every line of a block and every piece of code in the text; continued lines are joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return [*lines, *CODE.findall(BLOCK.sub("", text))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists(page: Path) -> None:
    for line in commands(page):
        words = re.sub(r"\s+# .*", "", line)
        if found := re.match(r"(?:[A-Z_]+=\S+ )*make ((?:[a-z-]+(?: |$))+)(.*)", words):
            assert set(found[1].split()) <= TARGETS, line
            outside = re.sub(r"\"[^\"]*\"|'[^']*'", "", found[2])
            assert set(re.findall(r"\b([A-Z_]+)=", outside)) <= VARIABLES, line
        for name in re.findall(r"(?<![\w/-])(?:\.venv/bin/)?(xmlgrpo-[a-z-]+)(?= |$)", words):
            assert name in COMMANDS, line
        for name in re.findall(r"nox -s ([a-z-]+)", words):
            assert f"def {name.replace('-', '_')}(" in SESSIONS, line
        for name in re.findall(r"(?<![\w/.])((?:bench|recipes|ci|configs)/[\w/.-]+\.\w+)", words):
            assert (ROOT / name).exists() or "weekday" in name, line
        if not any(tool in words for tool in OTHER_TOOLS):  # lm-eval's have underscores
            flags = set(re.findall(r"(?:^|\s)(--[a-z][a-z-]+)(?=[\s=]|$)", words)) - {
                "--help",
                "--metadata",
            }
            assert {flag for flag in flags if f'"{flag}"' not in SOURCES} == set(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_heading(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", BLOCK.sub("", page.read_text(encoding="utf-8")))):
        name, _, anchor = link.partition("#")
        if anchor and not link.startswith("http"):
            text = ((page.parent / name) if name else page).read_text(encoding="utf-8")
            assert anchor in {slug(title) for _, title in HEADING.findall(BLOCK.sub("", text))}


def slug(title: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_readme_and_docs_can_be_read_in_an_hour() -> None:
    """As `wc -w` counts, code and the bars of tables too."""
    pages = (ENGLISH, *ROOT.glob("docs/*.md"))
    words = {page.name: len(page.read_text(encoding="utf-8").split()) for page in pages}
    assert sum(words.values()) <= MOST_WORDS, words

"""Weights are read as safetensors alone: a pickle, as in `pytorch_model.bin`, can run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("packages/*/src/**/*.py", "bench/**/*.py", "recipes/**/*.py", "ci/**/*.py")
# they read no weights; an adapter's file is looked at before peft is asked to read it
NOT_WEIGHTS = ("Tokenizer", "tokenizer", "Processor", "Config", "PeftModel")


def loading_calls(code: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr == "from_pretrained" and not owner.endswith(NOT_WEIGHTS):
                yield node


def is_safe(call: ast.Call) -> bool:
    """Whether it names safetensors itself; `**options` say nothing to a reader."""
    named = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return named.get("use_safetensors") == "True" and named.get("trust_remote_code") != "True"


@pytest.mark.parametrize(
    ("code", "safe"),
    [
        pytest.param("AutoModelForCausalLM.from_pretrained(name)", False, id="by-default"),
        pytest.param("loader.from_pretrained(name, use_safetensors=True)", True, id="named"),
        pytest.param("M.from_pretrained(name, use_safetensors=asked)", False, id="may-be-off"),
        pytest.param(
            "M.from_pretrained(n, use_safetensors=True, trust_remote_code=True)", False, id="code"
        ),
    ],
)
def test_the_rule_tells_calls_apart(code: str, *, safe: bool) -> None:
    assert [is_safe(call) for call in loading_calls(code)] == [safe]


def test_every_call_that_reads_weights_asks_for_safetensors() -> None:
    paths = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    calls = [
        (path, call) for path in paths for call in loading_calls(path.read_text(encoding="utf-8"))
    ]
    assert len(calls) > 10
    unsafe = [f"{path}:{call.lineno}" for path, call in calls if not is_safe(call)]
    assert unsafe == []

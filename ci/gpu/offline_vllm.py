"""Pack vLLM for a GPU machine without a network, in parts that are small enough to be carried.

    .venv/bin/python ci/gpu/offline_vllm.py --out .vllm     # .vllm1/, .vllm2/, one part in each

It packs what `offline_vllm.txt` lists, for Python 3.12, and leaves out of vLLM's wheel what a dense
16-bit model on Hopper does not load: FlashAttention 2, the kernels of mixtures of experts, of MLA
and of 4-bit floats, headers for compiling kernels, the server in Rust.  One archive is cut into
the parts, because one library alone is larger than a part may be.  On that machine:

    cat .vllm?/site.tar.xz.? | python3 ci/gpu/offline_vllm.py --unpack site-vllm
    export PYTHONPATH=$PYTHONPATH:$PWD/site-vllm
"""

import argparse
import io
import lzma
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from one_wheel import Machine, fetch

HERE = Path(__file__).resolve().parent
PART_BYTES = 58 * 2**20
DROPPED = re.compile(
    r"vllm/third_party/(deep_gemm|fmha_sm100)/"
    r"|vllm/vllm-rs$"
    r"|vllm/(_moe_C_stable_libtorch|_flashmla_C|_flashmla_extension_C|_qutlass_C)\.abi3\.so$"
    r"|vllm/vllm_flash_attn/_vllm_fa2_C\.abi3\.so$"
    r"|xgrammar/lib/.*\.a$"
)


class Parts(io.RawIOBase):
    """A file for writing that goes on in the next folder when a part is full.

    Args:
        stem: `.vllm` for `.vllm1/site.tar.xz.1`, `.vllm2/site.tar.xz.2`, ...
        size: bytes of a part.
    """

    def __init__(self, stem: Path, size: int) -> None:
        self.stem, self.size = stem, size
        self.paths: list[Path] = []
        self.open_part: BinaryIO | None = None

    def writable(self) -> bool:
        """True, for `tarfile`."""
        return True

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        rest = memoryview(data)
        total = len(rest)
        while rest:
            part = self._with_room()
            written = part.write(rest[: self.size - part.tell()])
            rest = rest[written:]
        return total

    def close(self) -> None:
        """Close the last part."""
        if self.open_part is not None:
            self.open_part.close()
        super().close()

    def _with_room(self) -> BinaryIO:
        if self.open_part is not None:
            if self.open_part.tell() < self.size:
                return self.open_part
            self.open_part.close()
        number = len(self.paths) + 1
        folder = self.stem.with_name(f"{self.stem.name}{number}")
        folder.mkdir(parents=True, exist_ok=True)
        self.paths.append(folder / f"site.tar.xz.{number}")
        self.open_part = self.paths[-1].open("wb")
        return self.open_part


def pack(wheels: Iterable[Path], stem: Path, part_bytes: int) -> list[Path]:
    """Unpack wheels into one compressed archive, cut into parts.

    Returns:
        The parts, in their order.
    """
    parts = Parts(stem, part_bytes)
    with (
        io.BufferedWriter(parts) as whole,
        lzma.open(whole, "wb", preset=9) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as members:
                for member in members.infolist():
                    if member.is_dir() or DROPPED.match(member.filename):
                        continue
                    entry = tarfile.TarInfo(member.filename)
                    entry.size = member.file_size
                    entry.mode = 0o755 if member.filename.endswith(".so") else 0o644
                    with members.open(member) as data:
                        archive.addfile(entry, data)
    return parts.paths


def pinned(path: Path) -> list[str]:
    """The lines of a requirements file, without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    """Fetch and pack, or unpack what comes on standard input."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="folders to write: this name with a number behind")
    what.add_argument("--unpack", type=Path, metavar="FOLDER", help="the archive comes on stdin")
    made.add_argument("--python", default="3.12", help="the machine's; default 3.12")
    made.add_argument("--wheel", type=Path, help="vLLM's wheel, if it is here already")
    asked = made.parse_args()
    if asked.unpack:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz") as archive:
            archive.extractall(asked.unpack, filter="data")
        return
    machine = Machine(asked.python, "130", {})
    with tempfile.TemporaryDirectory() as scratch:
        wheels = [
            asked.wheel
            if asked.wheel and line.startswith("vllm==")
            else fetch(line, machine, Path(scratch))
            for line in pinned(HERE / "offline_vllm.txt")
        ]
        for part in pack(wheels, asked.out.absolute(), PART_BYTES):
            print(f"{part}: {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()

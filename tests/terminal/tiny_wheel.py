"""A wheel without anything that builds wheels; also a build backend, copied into a package.

`make setup` is driven with it: pip installs what is in a folder, and nothing asks the network.
"""

import zipfile
from pathlib import Path
from typing import Any


def write_wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Write `name-1.0-py3-none-any.whl` with these files into `folder`; returns its name."""
    about = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    wheel = f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(path, text)
    return wheel


def build_editable(
    wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None
) -> str:
    """Pip's call (PEP 660), with the package's folder as working folder."""
    name = f"xmlgrpo_{Path.cwd().name}"
    return write_wheel(Path(wheel_directory), name, {f"{name}.pth": f"{Path.cwd()}\n"})

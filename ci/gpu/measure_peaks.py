"""Peak GPU memory of GRPO steps on Gemma 3 shapes: what `xmlgrpo-plan`'s count is held against.

    python ci/gpu/measure_peaks.py --out docs/measured/peaks-h100.json
    python ci/gpu/measure_peaks.py --only 1b-8x256

Every setting of `settings.py` runs in a process of its own, `one_peak.py`, one after another.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from settings import SETTINGS

ONE_PEAK = Path(__file__).with_name("one_peak.py")
LIBRARIES = ("torch", "trl", "transformers", "peft", "bitsandbytes", "liger-kernel")
GIB = 2**30


def main() -> None:
    """Measure every setting, or the named ones, and write the results as they come."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, help="a JSON file; what it holds already is kept")
    options.add_argument("--only", nargs="+", choices=[s.name for s in SETTINGS], metavar="NAME")
    asked = options.parse_args()
    wanted = [s for s in SETTINGS if asked.only is None or s.name in asked.only]
    results: dict[str, Any] = {}
    if asked.out and asked.out.is_file():
        results = {r["name"]: r for r in json.loads(asked.out.read_text())["peaks"]}
    for setting in wanted:
        command = [sys.executable, str(ONE_PEAK), setting.name]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{setting.name}: ended with exit code {ran.returncode}")
        result = json.loads(ran.stdout.splitlines()[-1])
        results[setting.name] = result
        print(f"{setting.name:24} {result['peak_gib']:6.3f} GiB", flush=True)
        if asked.out:
            write(asked.out, results)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write results in the order of `SETTINGS`, with the device and the libraries."""
    told = {
        "device": torch.cuda.get_device_name(),
        "total_gib": round(torch.cuda.get_device_properties(0).total_memory / GIB, 2),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "peaks": [results[s.name] for s in SETTINGS if s.name in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

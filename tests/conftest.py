"""The tests here cross packages; they borrow the exporter's hub and its reader of cards."""

import sys
from pathlib import Path

# no installed package: `hub_server` and `tracing` are found by their folder
sys.path.append(str(Path(__file__).resolve().parents[1] / "packages" / "exporter" / "tests"))

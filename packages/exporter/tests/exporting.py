"""How the tests export: by the command that a user gives, and gate by gate."""

import json
from pathlib import Path

from rich.console import Console

from xmlgrpo_exporter.check.gates import check_file
from xmlgrpo_exporter.check.reference import Reference
from xmlgrpo_exporter.cli import parser
from xmlgrpo_exporter.convert import converter
from xmlgrpo_exporter.convert.staging import stage

QUIET = Console(quiet=True)
FEW = ("--prompts", "4", "--new-tokens", "24")


def run_cli(*words: object) -> int:
    """`xmlgrpo-export WORDS`, in this process."""
    arguments = parser().parse_args([str(word) for word in words])
    code: int = arguments.command(arguments)
    return code


def failed_gates(path: Path, reference: Reference) -> set[str]:
    """The gates that refuse a file; each of those says why, and the others do not."""
    check = check_file(path, reference)
    json.dumps(check.as_json(), allow_nan=False)
    for gate in check.gates:
        assert bool(gate.why) is not gate.passed
    return {gate.name for gate in check.gates if not gate.passed}


def to_f16(model: Path, home: Path, *, staged: bool = True) -> Path:
    """Convert a model folder into `home`, staged as the export does it or as it is."""
    source = model
    if staged:
        source = stage(model, home / "staged", prompts_have_bos=True)
    out = home / "model-f16.gguf"
    tree = converter.find_converter(QUIET)
    converter.convert(tree, source, out, "f16", "defect")
    return out

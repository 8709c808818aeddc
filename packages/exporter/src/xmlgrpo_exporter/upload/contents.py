"""What an evaluation of a run's models would record of their bytes, were it to run now."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmlgrpo_exporter.upload.base_model import BaseModel
from xmlgrpo_run.digests import digest, model_files
from xmlgrpo_run.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Contents:
    """The models of a run, by the evaluator's labels, as they lie here.

    Attributes:
        run: the run's folder, or a folder of files from elsewhere.
        base: the base model.
    """

    run: RunFolder
    base: BaseModel

    def content(self, label: str) -> str | None:
        """The digest of all files of a model; None where they cannot be named here."""
        return digest(self.files([label]))

    def files(self, labels: Iterable[str]) -> list[Path]:
        """The files that models' replies depend on; none of a model that is not here."""
        found: list[Path] = []
        for label in labels:
            if (places := self._places(label)) is not None:
                tokenizer = None if label in ("merged", "tuned") else self.run.adapter
                found += model_files(*filter(None, places), tokenizer=tokenizer)
        return found

    def _places(self, label: str) -> tuple[Path, Path | None] | None:
        """Where the weights and the adapter of a label lie."""
        run, below = self.run, self.base.folder
        if label == "merged":
            merged = run.merged if run.merged.is_dir() else run.root
            return (merged, None) if (merged / "config.json").is_file() else None
        if label == "base":
            return None if below is None else (below, None)
        if label == "tuned":
            # a base of the Hub has no files of its own here; of a folder that is gone, who knows
            known = below or (Path(self.base.hub_id) if self.base.hub_id is not None else None)
            return (known, run.adapter) if known is not None and run.adapter.is_dir() else None
        for folder in (run.gguf, run.root):
            if (folder / f"{label}.gguf").is_file():
                return folder / f"{label}.gguf", None
        return None

"""What is published and where to, as the card and its metadata need to know it."""

from dataclasses import dataclass

from xmlgrpo_exporter.upload.base_model import BaseModel
from xmlgrpo_exporter.upload.files import PlannedFile
from xmlgrpo_exporter.upload.licence import Licence


@dataclass(frozen=True, slots=True)
class Subject:
    """What the card is about.

    Attributes:
        hub: the Hub's address.
        repo: `owner/name`.
        revision: the branch that the files go to.
        private: whether the repository is.
        base: the base model, as far as known.
        licence: of what is published.
        files: what is published beside the card.
    """

    hub: str
    repo: str
    revision: str
    private: bool
    base: BaseModel
    licence: Licence
    files: tuple[PlannedFile, ...]

    def holds(self, name: str) -> bool:
        """Whether a file of this target is published."""
        return any(file.target == name for file in self.files)

    @property
    def ggufs(self) -> tuple[str, ...]:
        """The GGUF files' targets."""
        return tuple(file.target for file in self.files if file.target.endswith(".gguf"))

    @property
    def has_adapter(self) -> bool:
        """Whether the adapter is published."""
        return self.holds("adapter_config.json") or self.holds("adapter/adapter_config.json")

    @property
    def has_merged(self) -> bool:
        """Whether merged weights are published."""
        return self.holds("config.json")

"""How much of a model has come from the Hub: the libraries' own bars are switched off."""

from pathlib import Path


class Download:
    """A model's files in the Hub's cache on this machine.

    Args:
        name: the model's id.
        revision: a commit, tag or branch; None for the newest.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        from huggingface_hub.constants import HF_HUB_CACHE

        self.name, self.revision = name, revision
        self.is_asked = False
        self._blobs = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"

    def bytes(self) -> int:
        """What lies in the cache now, half files included."""
        total = 0
        for path in self._blobs.glob("*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # it has just got its final name
                continue
        return total

    def ask_total(self) -> int | None:
        """Bytes of its weights on the Hub; None where the Hub does not say.

        Asked once, and only after something has come, so that no network means no second wait.
        """
        from huggingface_hub import HfApi

        self.is_asked = True
        try:
            info = HfApi().model_info(
                self.name, revision=self.revision, files_metadata=True, timeout=5
            )
        except Exception:  # noqa: BLE001 - it is only the bar's end; loading tells what is wrong
            return None
        sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
        return sum(sizes) or None

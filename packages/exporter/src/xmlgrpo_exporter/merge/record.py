"""`merge.json`: what was merged, how it compared, and the hash that says it is still that."""

from pathlib import Path
from typing import Any

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_run.digests import model_digest
from xmlgrpo_run.files import read_json
from xmlgrpo_run.folder import MERGE_RECORD, RunFolder


def up_to_date(out: Path, source: dict[str, Any], *, any_dtype: bool) -> bool:
    """Whether `out` is already the merge of this source.

    Args:
        out: the merged folder.
        source: what `merge.json` says of it.
        any_dtype: a merge in another number type counts too: nobody asked for one.

    Raises:
        UserError: something else is there.
    """
    if not out.exists():
        return False
    record = read_json(out / MERGE_RECORD) if (out / MERGE_RECORD).is_file() else {}
    found = record.get("source", {})
    wanted = source | {"dtype": found.get("dtype")} if any_dtype else source
    if found == wanted:
        require_compared(out)
        return True
    raise UserError(
        f"{out} holds another merge (of another adapter, base or --dtype) or another model, which "
        "is not overwritten; remove it or give --out"
    )


def require_compared(merged: Path) -> None:
    """See that a merged folder is, to the byte, the one that was compared with the adapter.

    Everything that is exported is held against this folder, so it must be the trained model.

    Raises:
        UserError: it is missing, or something in it has changed.
    """
    if not (merged / MERGE_RECORD).is_file():
        raise UserError(
            f"{merged} is no merged run: it has no {MERGE_RECORD}; make it ({_how(merged)})"
        )
    if read_json(merged / MERGE_RECORD).get("fingerprint") != model_digest(merged):
        raise UserError(
            f"{merged} has changed since it was compared with the adapter (weights, configuration "
            f"or tokenizer); remove it and merge again ({_how(merged)})"
        )


def _how(merged: Path) -> str:
    return f"make merge RUN={RunFolder(merged.parent).called}"

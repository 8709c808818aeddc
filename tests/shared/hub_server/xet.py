"""Contents by Xet: the client's own hf_xet, with a store in a folder instead of a server.

`casUrl: local://FOLDER` makes hf_xet 1.8 do its real cutting into chunks, deduplication and
putting together with files under that folder.  The scheme is not documented.  What arrived is read
from the shards there, in the public format (huggingface.co/docs/xet/shard): a header of 48 bytes,
then for each file a record of 48 (hash, flags, number of terms), the terms, where flagged the
terms' checks, and where flagged the sha256; all in records of 48 bytes.
"""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

from .state import Call, Hub, Json, RefusalError, XetFile

RECORD = 48
END_OF_FILES = b"\xff" * 32
HAS_CHECKS, HAS_SHA256 = 1 << 31, 1 << 30


def token(call: Call) -> Json:
    """Access to the store; the client asks again shortly before it expires."""
    call.repo(write=call.match["what"] == "write")
    if call.hub.cas_url is None:
        raise RefusalError(404, "this hub has no Xet")
    return {
        "casUrl": call.hub.cas_url,
        "accessToken": "xet-access",
        "exp": int(time.time()) + 3600,
    }


def token_headers(answer: Json) -> dict[str, str]:
    """The same once more in headers, where the client's Python half reads it."""
    return {
        "X-Xet-Cas-Url": answer["casUrl"],
        "X-Xet-Access-Token": answer["accessToken"],
        "X-Xet-Token-Expiration": str(answer["exp"]),
    }


def download_headers(call: Call, file: XetFile, commit: str) -> dict[str, str]:
    """What sends the client to the store for a file's content."""
    route = f"{call.hub.url}/api/models/{call.match['id']}/xet-read-token/{commit}"
    return {"X-Xet-Hash": file.xet_hash, "X-Xet-Refresh-Route": route}


def find(hub: Hub, sha256: str) -> XetFile | None:
    """The file with this sha256 in the store, if it arrived."""
    return next((file for file in files(hub) if file.sha256 == sha256), None)


def files(hub: Hub) -> Iterator[XetFile]:
    """Every file that the store's shards speak of."""
    store = Path((hub.cas_url or "").removeprefix("local://"))
    for path in store.glob("xet/xorbs/shards/*.mdb") if hub.cas_url else ():
        shard, at = path.read_bytes(), RECORD
        while shard[at : at + 32] != END_OF_FILES:
            xet_hash = _hash(shard[at : at + 32])
            flags, terms = struct.unpack_from("<II", shard, at + 32)
            at += RECORD
            size = sum(
                struct.unpack_from("<I", shard, at + term * RECORD + 36)[0] for term in range(terms)
            )
            at += RECORD * terms * (2 if flags & HAS_CHECKS else 1)
            if flags & HAS_SHA256:
                yield XetFile(xet_hash, _hash(shard[at : at + 32]), size)
                at += RECORD


def _hash(raw: bytes) -> str:
    """A hash as Xet writes it out: four little-endian numbers of eight bytes."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))

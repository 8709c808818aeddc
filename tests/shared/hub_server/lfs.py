"""Contents by LFS: presigned addresses, whole or in parts; every hash is checked."""

import hashlib

from .state import Call, Hub, Json, RefusalError


def batch(call: Call) -> Json:
    call.repo(write=True)
    hub, objects = call.hub, []
    for wanted in call.json["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        answer = {"oid": oid, "size": size, "authenticated": True}
        if oid not in hub.lfs:
            href, header = f"{hub.url}/lfs/{oid}", {}
            if hub.part_bytes is not None and size > hub.part_bytes:
                count = -(-size // hub.part_bytes)
                header = {str(n): f"{href}/{n}" for n in range(1, count + 1)}
                header["chunk_size"] = str(hub.part_bytes)
            answer["actions"] = {
                "upload": {"href": href, "header": header},
                "verify": {"href": f"{hub.url}/verify/{call.match['id']}", "header": {}},
            }
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def put(call: Call) -> Json:
    """Take a content or one part of it; the answer's ETag is the hash of what came."""
    hub, oid, body = call.hub, call.match["oid"], call.request.body
    if hub.room_bytes is not None and len(body) + sum(map(len, hub.lfs.values())) > hub.room_bytes:
        raise RefusalError(507, "No space left in the object store")
    if call.match["part"]:
        hub.parts.setdefault(oid, {})[int(call.match["part"])] = body
    else:
        store(hub, oid, body)
    return {"etag": etag_of(body)}


def complete(call: Call) -> Json:
    """Put the parts together that the client names, each by number and ETag."""
    parts, body = call.hub.parts[call.match["oid"]], b""
    for part in call.json["parts"]:
        content = parts[part["partNumber"]]
        if part["etag"].strip('"') != etag_of(content):
            raise RefusalError(400, f"part {part['partNumber']} has another ETag")
        body += content
    store(call.hub, call.json["oid"], body)
    del call.hub.parts[call.match["oid"]]
    return {}


def verify(call: Call) -> Json:
    call.repo(write=True)
    if len(call.hub.lfs.get(call.json["oid"], b"")) != call.json["size"]:
        raise RefusalError(404, "no such content")
    return {}


def etag_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def store(hub: Hub, oid: str, body: bytes) -> None:
    if hashlib.sha256(body).hexdigest() != oid:
        raise RefusalError(400, "sha256 mismatch")
    hub.lfs[oid] = body

"""Routes of accounts and repositories: each returns the JSON of its answer."""

import base64
import json
import re
from fnmatch import fnmatch
from urllib.parse import unquote

from . import xet
from .state import Blob, Call, Download, Json, RefusalError, Repo

LFS_PATTERNS = ("*.safetensors", "*.gguf", "*.png", "*.model")
LFS_FROM_BYTES = 10_000_000


def whoami(call: Call) -> Json:
    if call.user is None:
        raise RefusalError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": call.role}
    return {
        "type": "user",
        "name": call.user,
        "orgs": [{"name": f"{call.user}-lab"}],
        "auth": {"type": "access_token", "accessToken": token},
    }


def validate_yaml(call: Call) -> Json:
    text = call.json["content"]
    if not text.startswith("---\n"):
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
    if re.search(r"^license: *(\[\])?$", text.split("\n---\n")[0], re.MULTILINE):
        raise RefusalError(400, '"license" must be a string')
    return {"errors": [], "warnings": []}


def create_repo(call: Call) -> Json:
    wanted = call.json
    name = f"{wanted.get('organization') or call.user}/{wanted['name']}"
    if call.role != "write":
        raise RefusalError(403, "You don't have the rights to create a model under this namespace")
    url = f"{call.hub.url}/{name}"
    if name in call.hub.repos:
        raise RefusalError(409, "You already created this model repo", url=url)
    private = wanted.get("visibility") == "private" and not call.hub.ignores_private
    call.hub.repos[name] = Repo(private)
    return {"url": url, "id": name}


def model_info(call: Call) -> Json:
    card = call.hub.cards.get(call.match["id"])
    if card is not None:  # a public model that is only there to have a card
        return {"id": call.match["id"], "sha": "f" * 40, "private": False, "cardData": card}
    repo = call.repo()
    commit = call.commit_of(repo, unquote(call.match["rev"] or "main"))
    siblings = [{"rfilename": path} for path in sorted(repo.commits[commit])]
    return {"id": call.match["id"], "sha": commit, "private": repo.private, "siblings": siblings}


def tree(call: Call) -> list[Json]:
    repo = call.repo()
    files = repo.commits[call.commit_of(repo, call.group("rev"))]
    return [files[path].entry(path) for path in sorted(files)]


def create_branch(call: Call) -> Json:
    repo, name = call.repo(write=True), call.group("name")
    if name in repo.branches:
        raise RefusalError(409, "Reference already exists")
    repo.branches[name] = call.commit_of(repo, call.json.get("startingPoint") or "main")
    return {}


def create_tag(call: Call) -> Json:
    repo, name = call.repo(write=True), call.json["tag"]
    if name in repo.tags:
        raise RefusalError(409, "Tag reference exists already")
    repo.tags[name] = call.commit_of(repo, call.group("rev"))
    return {}


def preupload(call: Call) -> Json:
    repo = call.repo(write=True)
    there = repo.commits[call.commit_of(repo, call.group("rev"))]
    answers = []
    for file in call.json["files"]:
        path = file["path"]
        large = file["size"] > LFS_FROM_BYTES or any(fnmatch(path, p) for p in LFS_PATTERNS)
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if path in there:
            answer["oid"] = there[path].lfs or there[path].oid
        answers.append(answer)
    return {"files": answers}


def commit(call: Call) -> Json:
    repo, branch = call.repo(write=True), call.group("rev")
    if branch not in repo.branches:
        raise RefusalError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    lines = [json.loads(line) for line in call.request.body.splitlines() if line.strip()]
    header, operations = lines[0]["value"], lines[1:]
    if header.get("parentCommit") not in (None, repo.branches[branch]):
        raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repo.tree(branch))
    for operation in operations:
        value, path = operation["value"], operation["value"]["path"]
        if operation["key"] == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif operation["key"] == "lfsFile":
            files[path] = stored(call, path, value["oid"], value["size"])
        elif operation["key"] == "deletedFile":
            if files.pop(path, None) is None:
                raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise RefusalError(400, f"unknown operation {operation['key']}")
    oid = repo.commit(branch, files, header["summary"])
    url = f"{call.hub.url}/{call.match['id']}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url}


def stored(call: Call, path: str, sha256: str, size: int) -> Blob:
    """The content that a commit names, which must have come by LFS or by Xet before."""
    if sha256 in call.hub.lfs:
        blob = Blob(call.hub.lfs[sha256], sha256)
    elif (file := xet.find(call.hub, sha256)) is not None:
        blob = Blob(lfs=sha256, xet=file)
    else:
        raise RefusalError(400, f"LFS pointer pointed to a file that does not exist: {path}")
    if blob.size != size:
        raise RefusalError(400, f"{path} has {blob.size} bytes, not {size}")
    return blob


def download(call: Call) -> Download:
    repo = call.repo()
    oid = call.commit_of(repo, call.group("rev"))
    files = repo.commits[oid]
    path = call.group("path")
    if path not in files:
        raise RefusalError(404, "Entry not found", "EntryNotFound")
    blob = files[path]
    if blob.xet is None:
        return Download(oid, blob)
    if call.request.method != "HEAD":
        raise RefusalError(501, "this file is in the Xet store, and was asked for by LFS")
    return Download(oid, blob, xet.download_headers(call, blob.xet, oid))

"""A hub on 127.0.0.1 that speaks what `huggingface_hub` asks: a contract server for tests.

It was written from the client's requests (huggingface_hub 1.33 and 2.4): it shows that our code
and the client agree with that contract, not that huggingface.co keeps to it.  It stores real bytes
and checks every hash it is given, so a test can read back what arrived.

A repository is commits; a commit is a tree (path -> `Blob`); branches and tags are names of
commits.  A route is a method, a pattern and a function in `ROUTES`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS_PATTERNS = ("*.safetensors", "*.gguf", "*.png", "*.model")
LFS_FROM_BYTES = 10_000_000
ID = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/models/{ID}"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Blob:
    """A file in a tree; `lfs` is the content's sha256 where it is kept as an LFS object."""

    content: bytes
    lfs: str | None = None

    @property
    def oid(self) -> str:
        if self.lfs is None:
            return git_hash(self.content)
        pointer = (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.lfs}\nsize {len(self.content)}\n"
        )
        return git_hash(pointer.encode())

    def entry(self, path: str) -> dict:
        size = len(self.content)
        entry = {"type": "file", "path": path, "size": size, "oid": self.oid}
        if self.lfs is not None:
            entry["lfs"] = {"oid": self.lfs, "size": size, "pointerSize": 130}
        return entry


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def resolve(self, revision: str) -> str | None:
        named = self.branches.get(revision) or self.tags.get(revision)
        return named or (revision if revision in self.commits else None)

    def tree(self, revision: str = "main") -> dict[str, Blob]:
        return self.commits[self.resolve(revision)]

    def commit(self, branch: str, tree: dict[str, Blob], message: str) -> str:
        seed = json.dumps([self.branches[branch], message, len(self.commits)])
        oid = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid], self.branches[branch] = tree, oid
        self.messages.append(message)
        return oid


@dataclass(frozen=True)
class Download:
    """A file on its way out, and the commit that it was read at."""

    commit: str
    blob: Blob


@dataclass
class Failure:
    """The next `times` requests whose `METHOD /path` the pattern is found in fail.

    With `done` the request is carried out first: only its answer is lost.
    """

    pattern: str
    status: int
    times: int = 1
    page: bytes | None = None
    done: bool = False


@dataclass
class Request:
    method: str
    path: str
    authorization: str | None
    body: bytes


class RefusalError(Exception):
    """A refusal, raised anywhere below a route."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        page: bytes | None = None,
        url: str | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.page = status, message, code, page
        self.url = url


@dataclass
class Hub:
    """The hub's state, and the levers that a test pulls.

    Attributes:
        tokens: token -> (user, role).
        part_bytes: LFS objects above it go up in parts of this size.
        room_bytes: what the LFS store holds at most.
        ignores_private: repositories are created public whatever was asked.
        before: called with each request before it is answered.
    """

    tokens: dict[str, tuple[str, str]]
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    cards: dict[str, dict] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    part_bytes: int | None = None
    room_bytes: int | None = None
    ignores_private: bool = False
    before: Callable[[Request], None] = lambda request: None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def writes(self) -> list[str]:
        """The requests so far that change something, as `METHOD path`."""
        reading = re.compile(r"/api/validate-yaml|.*/preupload/.*|.*/paths-info/.*")
        return [
            f"{request.method} {request.path}"
            for request in self.requests
            if request.method not in ("GET", "HEAD") and not reading.fullmatch(request.path)
        ]


@dataclass
class Call:
    """One request on its way through a route."""

    hub: Hub
    request: Request
    user: str | None
    role: str | None
    match: re.Match

    @property
    def json(self) -> dict:
        return json.loads(self.request.body or b"{}")

    def group(self, name: str) -> str:
        return unquote(self.match[name])

    def repo(self, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(self.match["id"])
        if repo is None or (repo.private and self.user is None):
            raise RefusalError(404 if self.user else 401, "Repository not found", "RepoNotFound")
        if write and self.role != "write":
            raise RefusalError(
                403, "Forbidden: you must use a write token to upload to a repository."
            )
        return repo

    def commit_of(self, repo: Repo, revision: str) -> str:
        commit = repo.resolve(revision)
        if commit is None:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


# --- routes: each returns the JSON of its answer


def whoami(call: Call) -> dict:
    if call.user is None:
        raise RefusalError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": call.role}
    return {
        "type": "user",
        "name": call.user,
        "orgs": [{"name": f"{call.user}-lab"}],
        "auth": {"type": "access_token", "accessToken": token},
    }


def validate_yaml(call: Call) -> dict:
    text = call.json["content"]
    if not text.startswith("---\n"):
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
    if re.search(r"^license: *(\[\])?$", text.split("\n---\n")[0], re.MULTILINE):
        raise RefusalError(400, '"license" must be a string')
    return {"errors": [], "warnings": []}


def create_repo(call: Call) -> dict:
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


def model_info(call: Call) -> dict:
    card = call.hub.cards.get(call.match["id"])
    if card is not None:  # a public model that is only there to have a card
        return {"id": call.match["id"], "sha": "f" * 40, "private": False, "cardData": card}
    repo = call.repo()
    commit = call.commit_of(repo, unquote(call.match["rev"] or "main"))
    siblings = [{"rfilename": path} for path in sorted(repo.commits[commit])]
    return {"id": call.match["id"], "sha": commit, "private": repo.private, "siblings": siblings}


def tree(call: Call) -> list:
    repo = call.repo()
    files = repo.commits[call.commit_of(repo, call.group("rev"))]
    return [files[path].entry(path) for path in sorted(files)]


def create_branch(call: Call) -> dict:
    repo, name = call.repo(write=True), call.group("name")
    if name in repo.branches:
        raise RefusalError(409, "Reference already exists")
    repo.branches[name] = call.commit_of(repo, call.json.get("startingPoint") or "main")
    return {}


def create_tag(call: Call) -> dict:
    repo, name = call.repo(write=True), call.json["tag"]
    if name in repo.tags:
        raise RefusalError(409, "Tag reference exists already")
    repo.tags[name] = call.commit_of(repo, call.group("rev"))
    return {}


def preupload(call: Call) -> dict:
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


def lfs_batch(call: Call) -> dict:
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
            answer["actions"] = {"upload": {"href": href, "header": header}}
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def lfs_put(call: Call) -> dict:
    hub, oid, body = call.hub, call.match["oid"], call.request.body
    if hub.room_bytes is not None and len(body) + sum(map(len, hub.lfs.values())) > hub.room_bytes:
        raise RefusalError(507, "No space left in the object store")
    if call.match["part"]:
        hub.parts.setdefault(oid, {})[int(call.match["part"])] = body
    else:
        store(hub, oid, body)
    return {}


def lfs_complete(call: Call) -> dict:
    parts = call.hub.parts.pop(call.match["oid"])
    body = b"".join(parts[part["partNumber"]] for part in call.json["parts"])
    store(call.hub, call.json["oid"], body)
    return {}


def store(hub: Hub, oid: str, body: bytes) -> None:
    if hashlib.sha256(body).hexdigest() != oid:
        raise RefusalError(400, "sha256 mismatch")
    hub.lfs[oid] = body


def commit(call: Call) -> dict:
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
            if value["oid"] not in call.hub.lfs:
                raise RefusalError(
                    400, f"LFS pointer pointed to a file that does not exist: {path}"
                )
            files[path] = Blob(call.hub.lfs[value["oid"]], value["oid"])
        elif operation["key"] == "deletedFile":
            if files.pop(path, None) is None:
                raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise RefusalError(400, f"unknown operation {operation['key']}")
    oid = repo.commit(branch, files, header["summary"])
    url = f"{call.hub.url}/{call.match['id']}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url}


def download(call: Call) -> "Download":
    repo = call.repo()
    oid = call.commit_of(repo, call.group("rev"))
    files = repo.commits[oid]
    path = call.group("path")
    if path not in files:
        raise RefusalError(404, "Entry not found", "EntryNotFound")
    return Download(oid, files[path])


ROUTES = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("GET", r"/api/whoami-v2", whoami),
        ("POST", r"/api/validate-yaml", validate_yaml),
        ("POST", r"/api/repos/create", create_repo),
        ("GET", rf"{API}(?:/revision/(?P<rev>[^/]+))?", model_info),
        ("GET", rf"{API}/tree/(?P<rev>[^/]+)", tree),
        ("POST", rf"{API}/branch/(?P<name>[^/]+)", create_branch),
        ("POST", rf"{API}/tag/(?P<rev>[^/]+)", create_tag),
        ("POST", rf"{API}/preupload/(?P<rev>[^/]+)", preupload),
        ("POST", rf"{API}/commit/(?P<rev>[^/]+)", commit),
        ("POST", rf"/{ID}\.git/info/lfs/objects/batch", lfs_batch),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", lfs_put),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs_complete),
        ("GET", rf"/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", download),
    )
]


# --- HTTP


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two wait 40 ms for the client's acknowledgement
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *args) -> None:
        """Keep quiet; `Hub.requests` has them."""

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        request = Request(self.command, path, self.headers.get("Authorization"), body)
        with self.hub.lock:
            self.hub.requests.append(request)
            try:
                self.hub.before(request)
                self.send_result(self.route(request))
            except RefusalError as refusal:
                self.send_refusal(refusal)

    # http.server looks a request's method up under these names
    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def route(self, request: Request) -> dict | list | Download:
        for failure in self.hub.failures:
            if failure.times > 0 and re.search(failure.pattern, f"{request.method} {request.path}"):
                failure.times -= 1
                if failure.done:
                    self.carry_out(request)
                raise RefusalError(failure.status, "injected failure", page=failure.page)
        return self.carry_out(request)

    def carry_out(self, request: Request) -> dict | list | Download:
        user = role = None
        if request.authorization is not None:
            token = request.authorization.removeprefix("Bearer ")
            if token not in self.hub.tokens:
                raise RefusalError(401, "Invalid credentials in Authorization header")
            user, role = self.hub.tokens[token]
        method = "GET" if request.method == "HEAD" else request.method
        for known, pattern, route in ROUTES:
            match = pattern.fullmatch(request.path)
            if known == method and match:
                return route(Call(self.hub, request, user, role, match))
        raise RefusalError(404, f"no route {request.method} {request.path}")

    def send_result(self, result: dict | list | Download) -> None:
        if isinstance(result, Download):
            blob = result.blob
            etag = f'"{blob.lfs or blob.oid}"'
            headers = {
                "ETag": etag,
                "X-Linked-ETag": etag,
                "X-Linked-Size": str(len(blob.content)),
                "X-Repo-Commit": result.commit,
            }
            self.send(200, blob.content, headers)
        else:
            self.send(200, json.dumps(result).encode(), {"ETag": '"part"'})

    def send_refusal(self, refusal: RefusalError) -> None:
        headers = {"X-Error-Message": refusal.message}
        if refusal.code is not None:
            headers["X-Error-Code"] = refusal.code
        body = {"error": refusal.message, "errors": [{"message": refusal.message}]}
        if refusal.url is not None:
            body["url"] = refusal.url
        self.send(refusal.status, refusal.page or json.dumps(body).encode(), headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


@contextmanager
def serve(tokens: dict[str, tuple[str, str]]) -> Iterator[Hub]:
    """Run a hub on a free port of 127.0.0.1 for as long as the block lasts."""
    hub = Hub(tokens)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

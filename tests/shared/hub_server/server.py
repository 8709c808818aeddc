"""HTTP for the hub: a route is a method, a pattern and a function in `ROUTES`."""

import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from . import lfs, repositories, xet
from .state import (
    Answer,
    Call,
    Download,
    Failure,
    HangUpError,
    Hub,
    Json,
    RefusalError,
    Request,
    SpoiltAnswerError,
)

ID = r"(?P<id>[\w.-]+/[\w.-]+)"
API = rf"/api/models/{ID}"

ROUTES: list[tuple[str, re.Pattern[str], Callable[[Call], Answer]]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("GET", r"/api/whoami-v2", repositories.whoami),
        ("POST", r"/api/validate-yaml", repositories.validate_yaml),
        ("POST", r"/api/repos/create", repositories.create_repo),
        ("GET", rf"{API}(?:/revision/(?P<rev>[^/]+))?", repositories.model_info),
        ("GET", rf"{API}/tree/(?P<rev>[^/]+)", repositories.tree),
        ("POST", rf"{API}/branch/(?P<name>[^/]+)", repositories.create_branch),
        ("POST", rf"{API}/tag/(?P<rev>[^/]+)", repositories.create_tag),
        ("POST", rf"{API}/preupload/(?P<rev>[^/]+)", repositories.preupload),
        ("POST", rf"{API}/commit/(?P<rev>[^/]+)", repositories.commit),
        ("GET", rf"/{ID}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", repositories.download),
        ("POST", rf"/{ID}\.git/info/lfs/objects/batch", lfs.batch),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", lfs.put),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})", lfs.complete),
        ("POST", rf"/verify/{ID}", lfs.verify),
        ("GET", rf"{API}/xet-(?P<what>read|write)-token/(?P<rev>[^/]+)", xet.token),
    )
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer: two wait 40 ms for the client's acknowledgement
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Keep quiet; `Hub.requests` has them."""

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        request = Request(self.command, path, self.headers.get("Authorization"), body)
        try:
            with self.hub.lock:
                self.hub.requests.append(request)
                try:
                    self.hub.before(request)
                    self.send_result(self.route(request))
                except RefusalError as refusal:
                    self.send_refusal(refusal)
        except HangUpError:
            self.hang_up()
        except SpoiltAnswerError as spoilt:  # without the lock: others are answered meanwhile
            with suppress(OSError):
                self.send_spoilt(spoilt.failure)
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def send_spoilt(self, failure: Failure) -> None:
        if failure.how == "reset":
            linger = struct.pack("ii", 1, 0)  # at its end the connection is reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif failure.how == "hang":
            self.hub.stopped.wait()
        else:
            body = b'{"name": "alice"}'
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            for byte in answer[:-7] if failure.how == "cut" else answer * 99:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if failure.how == "drip" and self.hub.stopped.wait(0.2):
                    return

    # http.server looks a request's method up under these names
    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def route(self, request: Request) -> Answer:
        for failure in self.hub.failures:
            if failure.times > 0 and re.search(failure.pattern, f"{request.method} {request.path}"):
                failure.times -= 1
                if failure.done:
                    self.carry_out(request)
                if failure.how:
                    raise SpoiltAnswerError(failure)
                if failure.status is None:
                    raise HangUpError
                raise RefusalError(
                    failure.status,
                    failure.message,
                    failure.error_code,
                    page=failure.page,
                    headers=failure.headers,
                )
        return self.carry_out(request)

    def carry_out(self, request: Request) -> Answer:
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

    def send_result(self, result: Answer) -> None:
        if isinstance(result, Download):
            blob = result.blob
            etag = f'"{blob.lfs or blob.oid}"'
            headers = {
                "ETag": etag,
                "X-Linked-ETag": etag,
                "X-Linked-Size": str(blob.size),
                "X-Repo-Commit": result.commit,
            }
            self.send(200, blob.content, headers | result.headers)
        else:
            headers = {}
            fields = result if isinstance(result, dict) else {}
            if "etag" in fields:
                headers = {"ETag": f'"{fields["etag"]}"'}
            if "casUrl" in fields:
                headers = xet.token_headers(fields)
            self.send(200, json.dumps(result).encode(), headers)

    def send_refusal(self, refusal: RefusalError) -> None:
        headers = refusal.headers | {"X-Error-Message": refusal.message}
        if refusal.code is not None:
            headers["X-Error-Code"] = refusal.code
        body: Json = {"error": refusal.message, "errors": [{"message": refusal.message}]}
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


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is none; anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(tokens: dict[str, tuple[str, str]], port: int = 0) -> Iterator[Hub]:
    """Run a hub on a port of 127.0.0.1, a free one by default, for as long as the block lasts."""
    hub = Hub(tokens)
    server = Server(("127.0.0.1", port), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()

# SPDX-License-Identifier: Apache-2.0
"""A registry on the loopback that does what it is told: hand out images, want tokens, send elsewhere, break off."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from image_archives import COMPRESS, config, descriptor, sha256

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass
class SmallRegistry:
    """What it has, and how it behaves.

    Attributes:
        requests: method and path of each, in their order.
        users: who may log in, by name; none: everybody reads.
        tokens: hand out tokens for that, from ``realm``; otherwise it wants Basic.
        elsewhere: where blobs are redirected to.
        breaks: after how many bytes each of the next answers breaks off.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)  # by tag and by digest
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)
    tokens: bool = True
    realm: str = ""
    elsewhere: str = ""
    breaks: list[int] = field(default_factory=list)
    drips: bool = False
    name: str = ""

    def blob(self, data: bytes) -> str:
        digest = f"sha256:{sha256(data)}"
        self.blobs[digest] = data
        return digest

    def manifest(self, document: dict, *tags: str) -> str:
        data = json.dumps(document).encode()
        digest = f"sha256:{sha256(data)}"
        self.manifests |= dict.fromkeys((digest, *tags), data)
        return digest

    def image(self, layers: Sequence[bytes], *tags: str, architecture: str = "amd64", **process: object) -> str:
        """Have an image; return its manifest's digest."""
        raw = config(layers, architecture, **process)
        packed = [COMPRESS["gzip"](layer) for layer in layers]
        for data in (raw, *packed):
            self.blob(data)
        return self.manifest(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor(raw, "config.v1+json"),
                "layers": [descriptor(data, "layer.v1.tar+gzip") for data in packed],
            },
            *tags,
        )

    def index(self, images: dict[str, str], *tags: str) -> str:
        """Have an index of images: manifest digests by architecture."""
        manifests = [
            descriptor(self.manifests[digest], "manifest.v1+json", platform={"architecture": name, "os": "linux"})
            for name, digest in images.items()
        ]
        return self.manifest({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}, *tags)

    def count(self, what: str, method: str = "GET") -> int:
        return sum(path.startswith(f"/v2/team/app/{what}") for verb, path in self.requests if verb == method)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def registry(self) -> SmallRegistry:
        return self.server.registry

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        registry, url = self.registry, urllib.parse.urlsplit(self.path)
        given = self.headers.get("Authorization", "")
        registry.requests.append((self.command, self.path))
        registry.authorizations.append(given)
        if url.path == "/token":
            self._token(given)
        elif url.path.startswith("/stored/"):
            self._send(registry.blobs[url.path.rpartition("/")[2]])
        elif registry.users and not self._is_welcome(given):
            realm = registry.realm or f"http://{registry.name}/token"
            wanted = f'Bearer realm="{realm}",service="test",scope="x"' if registry.tokens else 'Basic realm="test"'
            self._answer(401, b"", {"WWW-Authenticate": wanted})
        else:
            self._read(url.path)

    def _token(self, given: str) -> None:
        user, _, secret = base64.b64decode(given.partition(" ")[2]).decode().partition(":")
        if self.registry.users.get(user) == secret:
            self._answer(200, json.dumps({"token": f"sealed-{user}"}).encode())
        else:
            self._answer(401, b"{}")

    def _is_welcome(self, given: str) -> bool:
        for user, secret in self.registry.users.items():
            basic = "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
            if given == (f"Bearer sealed-{user}" if self.registry.tokens else basic):
                return True
        return False

    def _read(self, path: str) -> None:
        kind, _, name = path.removeprefix("/v2/team/app/").partition("/")
        found = {"manifests": self.registry.manifests, "blobs": self.registry.blobs}.get(kind, {}).get(name)
        if found is None:
            self._answer(404, b"{}")
        elif kind == "blobs" and self.registry.elsewhere:
            self._answer(307, b"", {"Location": f"{self.registry.elsewhere}/stored/{name}"})
        else:
            self._send(found)

    def _send(self, data: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._answer(206 if start else 200, data[start:], headers)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        if self.registry.breaks and data:
            data = data[: self.registry.breaks.pop(0)]
        step = 1 if self.registry.drips else len(data) or 1
        with contextlib.suppress(OSError):
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                if self.registry.drips:
                    self.server.stopped.wait(0.02)


@contextlib.contextmanager
def serving(registry: SmallRegistry | None = None, tls: ssl.SSLContext | None = None) -> Iterator[SmallRegistry]:
    """Have a registry answer on a port of its own until the end."""
    registry = registry or SmallRegistry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.registry, server.stopped, server.daemon_threads = registry, threading.Event(), True
    registry.name = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()

# SPDX-License-Identifier: Apache-2.0
"""The console script ``dockstack-exporter``: answers Prometheus with what servers and their host use.

It needs no right but to read what every user of the host may read (docs/adr/0017). Whoever asks in a loop gets the
same answer for a while: a scrape costs as many reads as there are servers.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dockstack.compute.containers import runtime
from dockstack.telemetry.census import Census
from dockstack.telemetry.metrics import HostMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PORT = 9958
SHORTEST = 5.0  # seconds between two readings
PATIENCE = 10.0  # seconds for a client to ask and to take its answer, all in all
CLIENTS = 16  # at a time; a Prometheus is one, for milliseconds
ROOM = 1.0  # seconds for one that was cut off to be gone
METRICS = "/metrics"


class Page:
    """The present answer, made at most once in ``SHORTEST``, however many ask at once."""

    def __init__(self, render: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        """Make nothing yet."""
        self._render, self._clock = render, clock
        self._lock = threading.Lock()
        self._made: tuple[float, bytes] | None = None

    def read(self) -> bytes:
        """Return it."""
        with self._lock:
            now = self._clock()
            if self._made is None or now - self._made[0] >= SHORTEST:
                self._made = (now, self._render())
            return self._made[1]


class Exporter(ThreadingHTTPServer):
    """Answers on one address, a bounded number of clients, each for a bounded time.

    Where there are as many as may be, the oldest is cut off for the newest: who asks and takes the answer, as
    Prometheus does, is through in milliseconds, and whoever only holds connections keeps nobody out.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: Page, patience: float = PATIENCE) -> None:
        """Listen.

        Raises:
            OSError: not on that address.
        """
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page = page
        self._patience = patience
        self._room = threading.BoundedSemaphore(CLIENTS)
        self._deadlines: dict[Any, float] = {}  # of the clients, the oldest first
        super().__init__(address, Answer)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, once there is room for it."""
        if not self._room.acquire(blocking=False):
            for oldest in list(self._deadlines)[:1]:
                _cut_off(oldest)
            if not self._room.acquire(timeout=ROOM):
                self.shutdown_request(request)
                return
        self._deadlines[request] = time.monotonic() + self._patience
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a client's connection, whose thread is at its end."""
        super().shutdown_request(request)
        if self._deadlines.pop(request, None) is not None:
            self._room.release()

    def service_actions(self) -> None:
        """Cut off whose time is over: sockets' own limits begin anew with each byte."""
        now = time.monotonic()
        for request, deadline in list(self._deadlines.items()):
            if deadline < now:
                _cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep clients that went away out of the log: anybody could fill it."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _cut_off(request: socket.socket) -> None:
    """End a connection for whoever waits on it, here and there; closing is for its own thread."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Exporter
    server_version, sys_version = "dockstack-exporter", ""

    def do_GET(self) -> None:
        """Return the metrics, or say where they are."""
        path = self.path.partition("?")[0]
        if path == METRICS:
            self._say(HTTPStatus.OK, self.server.page.read(), CONTENT_TYPE_LATEST)
        elif path == "/":
            self._say(HTTPStatus.OK, f"{METRICS}\n".encode())
        else:
            self._say(HTTPStatus.NOT_FOUND, b"There is /metrics only.\n")

    def log_message(self, *_: object) -> None:
        """Keep requests out of the log."""

    def _say(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def build_registry(metrics: HostMetrics) -> CollectorRegistry:
    """Return all that is exported: what was found, and what finding it costs."""
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(namespace="dockstack_exporter", registry=registry)
    return registry


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(prog="dockstack-exporter", description="Metrics of this host's Docker servers.")
    options.add_argument("--address", default="127.0.0.1", help="where to listen (default: %(default)s)")
    options.add_argument("--port", type=int, default=PORT, help="(default: %(default)s)")
    options.add_argument("--host", default=socket.gethostname(), help="Nova's name of this host (default: %(default)s)")
    options.add_argument(
        "--patches", type=Path, default=runtime.PATCHES, help="[docker] patch_directory (default: %(default)s)"
    )
    options.add_argument("--disk", default="/var/lib/docker", help="where the engine keeps data (default: %(default)s)")
    options.add_argument("--compute", type=Path, help="[docker] metrics_file (default: none)")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer until the process is ended."""
    options = parser().parse_args(arguments)
    metrics = HostMetrics(Census(options.patches), name=options.host, disk=options.disk, compute=options.compute)
    registry = build_registry(metrics)
    try:
        server = Exporter((options.address, options.port), Page(lambda: generate_latest(registry)))
    except OSError as error:
        sys.exit(f"dockstack-exporter: cannot listen on {options.address} port {options.port}: {error.strerror}")
    with server:
        server.serve_forever()

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
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dockstack.compute.containers import runtime
from dockstack.telemetry.census import Census
from dockstack.telemetry.metrics import HostMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PORT = 9958
SHORTEST = 5.0  # seconds between two readings
PATIENCE = 10.0  # seconds for a client to ask and to take its answer
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
    """Answers on one address."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: Page) -> None:
        """Listen.

        Raises:
            OSError: not on that address.
        """
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page = page
        super().__init__(address, Answer)


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Exporter
    timeout = PATIENCE
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

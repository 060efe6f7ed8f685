# SPDX-License-Identifier: Apache-2.0
"""One uWSGI process with threads per API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini


def uwsgi_ini(module: str, bind: str, port: int, threads: int) -> Ini:
    """Return the file of one API.

    There is no master process: the service supervisor restarts what dies, and one process is half the memory of two.
    """
    return {
        "uwsgi": {
            "module": f"{module}:application",
            "http-socket": f"{bind}:{port}",
            "http-chunked-input": "true",
            "processes": "1",
            "threads": str(threads),
            "enable-threads": "true",
            "single-interpreter": "true",
            "need-app": "true",
            "die-on-term": "true",
            # Tearing the interpreter down waits for threads that may never end, such as one that talks to OVN.
            "skip-atexit-teardown": "true",
            "buffer-size": "65535",
            # uWSGI allows four seconds and chunks of 1 MiB; an image may come more slowly and in larger pieces.
            "socket-timeout": "120",
            "chunked-input-timeout": "120",
            "chunked-input-limit": str(64 * 1024**2),
            "listen": "100",
            "add-header": "Connection: close",
            "disable-logging": "true",
            "log-date": "true",
        }
    }

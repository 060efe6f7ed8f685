# SPDX-License-Identifier: Apache-2.0
"""The registry's process: ``python -m dockstack.registry FILE``; ``--dry-run`` tells what its reaper would do."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from dockstack.errors import DockstackError
from dockstack.registry.api import application
from dockstack.registry.configuration import Configuration
from dockstack.registry.exchange import in_thread
from dockstack.registry.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOG = logging.getLogger("dockstack.registry")
_ROUND_SECONDS = 600
_CONNECTIONS = 1000
_LOOPBACK = "127.0.0.1"  # where Glance reads, so that its addresses of images stay true when others' change
_WITH_LOOPBACK = (_LOOPBACK, "0.0.0.0")


def main() -> int:
    """Serve until the end, or say what a reaper would do now."""
    parser = argparse.ArgumentParser(prog="dockstack-registry")
    parser.add_argument("configuration", help="the registry's file")
    parser.add_argument("--dry-run", action="store_true", help="serve nothing; tell what nobody holds any more")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    os.umask(0o077)
    try:
        service = Service(Configuration.read(arguments.configuration))
        if arguments.dry_run:
            for line in service.reaper.reap(dry_run=True):
                print(line)
            return 0
    except DockstackError as error:
        print(f"{error} {error.details}".strip(), file=sys.stderr)
        return 1
    serve(service)
    return 0


def serve(service: Service) -> None:
    """Answer requests."""

    @contextlib.asynccontextmanager
    async def rounds(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(_go_round(service))
        yield
        task.cancel()

    configuration = uvicorn.Config(
        application(service, rounds),
        http="httptools",
        loop="asyncio",
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        log_config=None,
    )
    address, port = service.configuration.address, service.configuration.port
    addresses = {address} if address in _WITH_LOOPBACK else {address, _LOOPBACK}
    uvicorn.Server(configuration).run([socket.create_server((one, port)) for one in sorted(addresses)])


def _round(service: Service) -> list[str]:
    return list(service.reaper.reap())


async def _go_round(service: Service) -> None:
    """Finish what a crash left, and remove what nobody holds, now and then."""
    while True:
        try:
            for line in await in_thread(_round, service):
                LOG.info("%s", line)
        except Exception:
            LOG.exception("This round was not finished; the next one is in %s s", _ROUND_SECONDS)
        await asyncio.sleep(_ROUND_SECONDS)


if __name__ == "__main__":
    sys.exit(main())

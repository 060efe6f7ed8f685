# SPDX-License-Identifier: Apache-2.0
"""Connections to the engine: one SDK client for each thread."""

from __future__ import annotations

import threading
from typing import Any

import docker
from dockstack.compute.engine.faults import translated


class Connection:
    """Where an engine is.

    Safe to share among threads: each thread gets its own SDK client, because a requests session is not.
    """

    def __init__(self, base_url: str, timeout: int) -> None:
        """Remember where the engine is; nothing is called yet.

        Args:
            base_url: as DOCKER_HOST: "unix:///run/docker.sock".
            timeout: seconds to wait for an answer, or for the next bytes of one.
        """
        self.base_url = base_url
        self.timeout = timeout
        self._threads = threading.local()
        self._api_version: str | None = None

    def _client(self) -> Any:
        """Return this thread's SDK client."""
        client = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = self._connect(self.timeout)
        return client

    def _connect(self, timeout: int) -> Any:
        with translated("connecting"):
            client = docker.APIClient(self.base_url, version=self._api_version, timeout=timeout)
            client.trust_env = False  # a proxy set for downloads is not meant for the engine
            self._api_version = client.api_version
        return client

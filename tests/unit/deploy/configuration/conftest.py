# SPDX-License-Identifier: Apache-2.0
"""One cloud's settings for all tests of the builders."""

from __future__ import annotations

import pytest

from dockstack.deploy.configuration.settings import SECRET_NAMES, Settings


@pytest.fixture
def settings() -> Settings:
    """A cloud whose secrets can be told apart."""
    return Settings(
        secrets={name: f"secret-{name}" for name in SECRET_NAMES},
        hostname="node1",
        datapath="netdev",
        compute_driver="docker.DockerDriver",
        container_formats=("docker", "dockerref"),
        hypervisor_options=(("docker", (("host_url", "unix:///run/docker.sock"),)),),
    )

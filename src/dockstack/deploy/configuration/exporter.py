# SPDX-License-Identifier: Apache-2.0
"""The exporter of a node's metrics, as a user that may do nothing (docs/adr/0017); pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration.programs import PYTHON_ENVIRONMENT
from dockstack.deploy.supervision.services import Check, CheckKind, Service

if TYPE_CHECKING:
    from dockstack.deploy.wanted.attributes import Attributes
    from dockstack.deploy.wanted.hosts import ExtraHost

NAME = "exporter"
USER = "dockstack-exporter"
MOST_FILES = 256  # open at once: each client is one
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # whoever listens there answers here


def service(attributes: Attributes, data_root: str, metrics_file: str, host: ExtraHost | None = None) -> Service:
    """Return the exporter.

    Args:
        attributes: the node's.
        data_root: where its engine keeps data.
        metrics_file: where its nova-compute counts.
        host: the further host that it is for, whose loopback nobody reaches: it listens on the hosts' network.
    """
    address = host.tunnel_address if host else attributes.text("telemetry.address")
    port = attributes.number("ports.exporter")
    answering = _ANY.get(address, address)
    return Service(
        name=NAME,
        title="Metrics for Prometheus",
        command=(
            f"{paths.OPENSTACK_VENV}/bin/dockstack-exporter",
            *(f"--address={address}", f"--port={port}"),
            *(f"--patches={paths.PATCH_DIRECTORY}", f"--disk={data_root}", f"--compute={metrics_file}"),
            *((f"--host={host.name}",) if host else ()),
        ),
        user=USER,
        environment=PYTHON_ENVIRONMENT,
        check=Check(CheckKind.HTTP, f"http://{f'[{answering}]' if ':' in answering else answering}:{port}/"),
        watch=(paths.LOCK_MARKER, paths.DRIVER_MARKER),
        nofile=MOST_FILES,
    )

# SPDX-License-Identifier: Apache-2.0
"""Checks of a controller: what Nova's database tells, and no API does; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.join.probes import releases
from dockstack.doctor.cloud_checks import COMPUTE
from dockstack.doctor.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.doctor.machine import Subject

CONDUCTOR = "nova-conductor"
# Its own configuration names no database, as nova-compute reads that, too.
_FILES = "--config-file /etc/nova/nova.conf --config-file /etc/nova/nova-db.conf"
MAP = f"{paths.OPENSTACK_VENV}/bin/nova-manage {_FILES} cell_v2 discover_hosts"


def versions(subject: Subject) -> Iterator[Finding]:
    """Compute nodes that are newer than their conductors, or too old for them."""
    counted = [(row[1], row[2], int(row[3])) for row in subject.database if row[0] == "service"]
    conductors = [version for _, binary, version in counted if binary == CONDUCTOR]
    if not conductors:
        return
    for host, binary, version in counted:
        if binary == COMPUTE and version > min(conductors):
            yield Finding(
                f"nova-compute on {host} is newer (version {version}) than a nova-conductor ({min(conductors)}).",
                "Upgrade the controllers first, then the nodes: run `dockstack up` here with their release.",
            )
        elif binary == COMPUTE and version < releases.oldest_service(max(conductors)):
            yield Finding(
                f"nova-compute on {host} is of version {version}, and Nova's services here take those from "
                f"{releases.oldest_service(max(conductors))} on.",
                f"Upgrade that node, or delete its service: openstack compute service delete (of {host}).",
            )


def mapping(subject: Subject) -> Iterator[Finding]:
    """Compute hosts that are mapped to no cell."""
    mapped = {row[1] for row in subject.database if row[0] == "mapped"}
    hosts = {row[1] for row in subject.database if row[0] == "service" and row[2] == COMPUTE}
    for host in sorted(hosts - mapped):
        yield Finding(
            f"The compute host {host} is mapped to no cell.",
            f"A cloud of `dockstack up` maps hosts within seconds: see `dockstack logs nova-scheduler`. By hand: {MAP}",
        )

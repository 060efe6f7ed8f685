# SPDX-License-Identifier: Apache-2.0
"""Metrics of a node's Docker servers for Prometheus, if they are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import exporter
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import METRICS_FILE, Docker
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that exports metrics, or takes away what an earlier run had set up for it."""
    if not isinstance(chosen(node), Docker):
        return ()
    return (Stage("exporter", "Exporting metrics", start, ("compute",), phase="services"),)


def services(node: Node) -> tuple[Service, ...]:
    """Return what the node's attributes ask for; pure."""
    attributes = node.attributes
    if not isinstance(chosen(node), Docker) or not attributes.flag("telemetry.prometheus"):
        return ()
    return (exporter.service(attributes, engine_of(attributes).data_root, METRICS_FILE),)


def start(machine: Machine) -> None:
    """Have the exporter running, or gone if nobody wants it."""
    wanted = services(machine.node)
    for service in wanted:
        machine.user(service.user, home="/nonexistent")
        ensure_running(machine, service)
    for service in machine.records.services():
        if service.name == exporter.NAME and not wanted:
            host_removal.forget(machine, service)
            machine.absent(METRICS_FILE)  # nova-compute, started anew without it, writes it no more

# SPDX-License-Identifier: Apache-2.0
"""Metrics of Docker servers for Prometheus, of a node and of the further hosts on it, if they are wanted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import exporter, extra_hosts
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import METRICS_FILE, Docker
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that export metrics, or take away what an earlier run had set up for it."""
    if not isinstance(chosen(node), Docker):
        return ()
    keys = hosts.further_keys(node.attributes) if node.has(Role.CONTROLLER) else ()
    further = [
        Stage(
            f"{key}-exporter",
            f"Exporting metrics on {key}",
            partial(start_on, key=key),
            (f"{key}-compute",),
            phase="services",
        )
        for key in keys
    ]
    return (Stage("exporter", "Exporting metrics", start, ("compute",), phase="services"), *further)


def services(node: Node) -> tuple[Service, ...]:
    """Return what the node's attributes ask for on the machine itself; pure."""
    attributes = node.attributes
    if not isinstance(chosen(node), Docker) or not attributes.flag("telemetry.prometheus"):
        return ()
    return (exporter.service(attributes, engine_of(attributes).data_root, METRICS_FILE),)


def start(machine: Machine) -> None:
    """Have the machine's exporter running, or gone if nobody wants it."""
    _settle(machine, exporter.NAME, services(machine.node), METRICS_FILE)


def start_on(machine: Machine, key: str) -> None:
    """Have a further host's exporter running, or gone if nobody wants it."""
    attributes, wanted = machine.attributes, []
    if services(machine.node):
        known = hosts.extra_hosts(attributes, settings_of(machine).hostname)
        host = next(each for each in known if each.key == key)
        ordinary = exporter.service(attributes, engine_of(attributes).data_root, METRICS_FILE, host)
        wanted.append(extra_hosts.entered(ordinary, key, ()))
    _settle(machine, hosts.service_name(key, exporter.NAME), wanted, hosts.outside(key, METRICS_FILE))


def _settle(machine: Machine, name: str, wanted: Sequence[Service], metrics_file: str) -> None:
    for service in wanted:
        machine.user(service.user, home="/nonexistent")
        ensure_running(machine, service)
    for service in machine.records.services():
        if service.name == name and not wanted:
            host_removal.forget(machine, service)
            machine.absent(metrics_file)  # nova-compute, started anew without it, writes it no more

# SPDX-License-Identifier: Apache-2.0
"""Start nova-compute, and wait until Nova can place servers on its host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import cinder, fabric, mounts
from dockstack.deploy.recipes.controller import ask
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of a node that runs servers."""
    if chosen(node) is None:
        return ()
    return (
        Stage(
            "compute",
            "Starting nova-compute",
            start,
            (
                "hypervisor-start",
                "message-bus",
                "nova-daemons",
                "placement",
                "switch",
                *cinder.before_hosts(node),
                *mounts.before(node),
            ),
            phase="services",
        ),
        Stage(
            "ready", "Waiting until Nova may place servers here", await_report, ("compute", "nova"), 0, phase="cloud"
        ),
        Stage("bandwidth", "Offering bandwidth to ports here", offer_bandwidth, ("ready",), 0, phase="cloud"),
        *_aggregate(node),
    )


def _aggregate(node: Node) -> tuple[Stage, ...]:
    if not node.attributes.text("compute.aggregate") or not isinstance(chosen(node), Docker):
        return ()
    after = ("ready", *(f"{key}-ready" for key in hosts.further_keys(node.attributes)))
    return (Stage("aggregate", "Putting hosts into their aggregate", join_aggregate, after, 0, phase="cloud"),)


def join_aggregate(machine: Machine) -> None:
    """Have the machine's hosts in their aggregate; asked each time, as Nova forgets a host's place with its service."""
    settings, name = settings_of(machine), machine.attributes.text("compute.aggregate")
    further = hosts.extra_hosts(machine.attributes, settings.hostname)
    ask(
        machine,
        "aggregate",
        desired_state.aggregate(settings, name, [settings.hostname, *(host.name for host in further)]),
    )


def start(machine: Machine) -> None:
    """Have nova-compute running."""
    ensure_running(machine, compute_service(machine))


def compute_service(machine: Machine) -> Service:
    """Return nova-compute with what the hypervisor adds to it."""
    plugin = chosen(machine.node)
    groups, watch = ((), ()) if plugin is None else (plugin.contribution().groups, plugin.contribution().watch)
    (service,) = programs.nova_compute(settings_of(machine), groups, watch)
    return mounts.after_holder(machine, cinder.after_pool(machine, service))


def await_report(machine: Machine) -> None:
    """Wait until nova-compute has reported since its start: before that, the scheduler finds no valid host."""
    await_service(machine, compute_service(machine), settings_of(machine).hostname)


def offer_bandwidth(machine: Machine) -> None:
    """Let Neutron guarantee ports bandwidth here."""
    fabric.offer_bandwidth(machine, settings_of(machine))


def await_service(machine: Machine, service: Service, host: str) -> None:
    """Wait until the nova-compute of a host has reported since its start.

    Waiting does not count as a change: after a reboot, systemd has started everything already.
    """
    pid = machine.backend.look(service).pid
    seen = machine.run(["ps", "-o", "etimes=,lstart=", "-p", str(pid or 0)], check=False).stdout.split()
    if not seen:
        raise StepFailedError(
            f"{service.name} has ended.", f"Its log is {service.log_path}; then run `dockstack up` again."
        )
    age, *since = seen
    key, done = " ".join((str(pid), *since)), f"{service.name.removeprefix('nova-')}-ready"
    if machine.manifest.done(done) != key:
        ask(machine, "await-compute", desired_state.await_compute(settings_of(machine), {host: int(age)}))
        machine.manifest.set_done(done, key)

# SPDX-License-Identifier: Apache-2.0
"""Power states, lifecycle events, diagnostics and options in Nova's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nova.conf
from nova import objects
from nova.compute import power_state, task_states, vm_states
from nova.objects import fields
from nova.virt import event, hardware

from dockstack.compute.engine import EventKind
from dockstack.compute.model import PowerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.compute.engine import Event

CONF = nova.conf.CONF

POWER_STATES = {
    PowerState.RUNNING: power_state.RUNNING,
    PowerState.PAUSED: power_state.PAUSED,
    PowerState.SHUTDOWN: power_state.SHUTDOWN,
    PowerState.CRASHED: power_state.CRASHED,
    PowerState.NOSTATE: power_state.NOSTATE,
}
TRANSITIONS = {
    EventKind.STARTED: event.EVENT_LIFECYCLE_STARTED,
    EventKind.STOPPED: event.EVENT_LIFECYCLE_STOPPED,
    EventKind.PAUSED: event.EVENT_LIFECYCLE_PAUSED,
    EventKind.RESUMED: event.EVENT_LIFECYCLE_RESUMED,
}


def build_info(state: PowerState, instance: Any) -> hardware.InstanceInfo:
    """Translate a power state to what ``get_info`` answers."""
    return hardware.InstanceInfo(state=number_state(state, instance))


def number_state(state: PowerState, instance: Any) -> int:
    """Return a server's power state as Nova's number.

    The engine has one state for paused and suspended servers. Nova has two, and its record of the server tells which.
    """
    suspended = instance.vm_state == vm_states.SUSPENDED or instance.task_state == task_states.SUSPENDING
    if state is PowerState.PAUSED and suspended:
        return int(power_state.SUSPENDED)
    return int(POWER_STATES[state])


def build_event(happened: Event) -> event.LifecycleEvent:
    """Translate an event of the engine to Nova's."""
    return event.LifecycleEvent(happened.server_uuid, TRANSITIONS[happened.kind], happened.time_ns / 1e9)


def build_architecture(machine: str) -> str:
    """Translate the kernel's name of an architecture to Nova's."""
    return str(fields.Architecture.canonicalize(machine))


def build_flat_diagnostics(instance: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten diagnostics for API versions before 2.48, where every driver has keys of its own."""
    flat = {key: value for key, value in found.items() if key != "nics"} | {"memory": instance.flavor.memory_mb * 1024}
    for index, nic in enumerate(found["nics"]):
        flat |= {f"eth{index}_{key}": value for key, value in nic.items()}
    return flat


def build_diagnostics(instance: Any, found: Mapping[str, Any]) -> objects.Diagnostics:
    """Translate diagnostics to Nova's object.

    Its ``driver`` is an enumeration of Nova's own drivers, and the API's answer must name one of them. "libvirt" stands
    for "a hypervisor of this host's kernel"; ``hypervisor`` says what it really is.
    """
    diagnostics = objects.Diagnostics(
        state=power_state.STATE_MAP[number_state(found["state"], instance)],
        driver=fields.HypervisorDriver.LIBVIRT,
        hypervisor="docker",
        hypervisor_os="linux",
        uptime=found["uptime"],
        config_drive=False,
    )
    diagnostics.add_cpu(id=0, time=found.get("cpu_ns", 0))  # a control group's processors are counted together
    diagnostics.num_cpus = instance.flavor.vcpus
    for nic in found["nics"]:
        diagnostics.add_nic(**nic)
    diagnostics.add_disk(read_bytes=found.get("read_bytes"), write_bytes=found.get("written_bytes"))
    diagnostics.memory_details = objects.MemoryDiagnostics(
        maximum=instance.flavor.memory_mb, used=found.get("memory_bytes", 0) >> 20
    )
    return diagnostics

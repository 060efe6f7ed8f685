# SPDX-License-Identifier: Apache-2.0
"""A file for a bug report: what was found, and what the machines and the cloud are like, without any secret.

Facts are chosen by name, so that what nobody thought of is left out; then every secret that is known here is taken out
of the text, in case one stood in what something said.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.distributions import Distribution
from dockstack.deploy.hypervisors.engine import DAEMON_JSON
from dockstack.deploy.node.secrets import GivenSecrets, Secrets
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from dockstack.deploy.wanted.cloud_document import CloudDocument
    from dockstack.doctor.cloud import Cloud
    from dockstack.doctor.host import HostFacts
    from dockstack.doctor.machine import Subject

ENGINE = (
    *("ServerVersion", "Driver", "DriverStatus", "CgroupDriver", "CgroupVersion", "KernelVersion", "OperatingSystem"),
    *("Architecture", "NCPU", "MemTotal", "Containers", "ContainersRunning", "Images", "DockerRootDir"),
    *("LiveRestoreEnabled", "DefaultRuntime", "LoggingDriver", "SecurityOptions", "MemoryLimit", "SwapLimit"),
    *("CpuCfsQuota", "CPUSet", "PidsLimit", "IPv4Forwarding"),
)
SWITCH = (
    *("hostname", "system-id", "ovn-remote", "ovn-encap-type", "ovn-encap-ip", "ovn-bridge-mappings"),
    *("ovn-bridge-datapath-type", "ovn-cms-options", "ovn-monitor-all"),
)
SERVICE = ("name", "state", "healthy", "problem", "memory")


def of_machine(seen: Subject) -> dict[str, Any]:
    """Return what a machine is like; pure."""
    machine, facts = seen.machine, seen.facts
    known = machine.distribution
    return {
        "hostname": facts.hostname,
        "distribution": known.title if isinstance(known, Distribution) else known.brief,
        "kernel": seen.kernel,
        "python": ".".join(map(str, machine.python)),
        "memory_mb": machine.memory_mb,
        "disks": [vars(disk) for disk in seen.disks],
        "control_groups": {"file_system": seen.cgroup, "controllers": sorted(seen.controllers)},
        "systemd": facts.systemd,
        "clock": {"ahead": facts.clock, "kept": seen.clock_kept},
        "packages": dict(facts.packages),
        "lock": facts.lock,
        "is": "controller" if facts.controller else "compute node" if facts.ours else "none of ours",
        "attributes": {
            one.attribute.name: one.value for one in seen.node.attributes.settings() if one.source != "default"
        },
        "engine": {name: machine.engine.info[name] for name in ENGINE if name in machine.engine.info},
        "runtimes": sorted(machine.engine.info.get("Runtimes") or ()),
        "engine_file_keys": _keys(machine.engine.file),
        "engine_flags": sorted(machine.engine.flags),
        "datapath": facts.datapath,
        "unreached": list(facts.silent),
        "hosts": [_of_host(host) for host in seen.hosts],
        "services": [{name: one.get(name) for name in SERVICE} for one in seen.status.get("services", ())],
    }


def _of_host(host: HostFacts) -> dict[str, Any]:
    return {
        "key": host.key,
        "nova": host.nova,
        "containers": len(host.containers),
        "namespaces": len(host.namespaces),
        "bridges": list(host.bridges),
        "interfaces": len(host.interfaces),
        "open_vswitch": {name: host.settings[name] for name in SWITCH if name in host.settings},
        "ovn_controller": host.ovn,
    }


def _keys(file: str | None) -> list[str]:
    """Return the keys of daemon.json: its values may have a proxy's password."""
    try:
        document = json.loads(file or "{}")
    except ValueError:
        return [f"{DAEMON_JSON} is no JSON"]
    return sorted(document) if isinstance(document, dict) else []


def of_cloud(cloud: Cloud) -> dict[str, Any]:
    """Return what a cloud is like; what does not answer is left out, as its check says so."""
    parts: dict[str, Callable[[], Any]] = {
        "api": lambda: ".".join(map(str, cloud.microversion)),
        "hypervisors": lambda: cloud.hypervisors,
        "services": lambda: [vars(each) for each in cloud.services],
        "agents": lambda: [vars(each) for each in cloud.agents],
    }
    found = {}
    for name, ask in parts.items():
        try:
            found[name] = ask()
        except DockstackError:
            continue
    return found


def of_document(document: CloudDocument) -> dict[str, Any]:
    """Return a cloud document; of secrets, only whether they are there."""
    return {
        key.name: {"value": bool(one.value) if key.secret else one.value, "from": one.source}
        for key, one in document.settings()
        if one.source != "default"
    }


def write(path: str | Path, findings: dict[str, Any], facts: dict[str, Any], document: CloudDocument | None) -> None:
    """Write the file whole, for its owner only.

    Raises:
        DockstackError: it cannot be written.
    """
    told = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "dockstack": _version(),
        "python": sys.version.partition(" ")[0],
        "here": platform.platform(),
        "findings": findings,
        "facts": facts,
        "cloud_document": of_document(document) if document else {},
    }
    text = without(json.dumps(told, indent=1, default=str), known_secrets(document))
    try:
        write_atomically(path, text + "\n", mode=0o600)
    except OSError as error:
        raise DockstackError(f"{path} cannot be written: {error.strerror}.", "Name another place.") from error


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a JSON text without these secrets, as they are and as JSON has them."""
    every = [form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])]
    return GivenSecrets(every).redact(text)


def known_secrets(document: CloudDocument | None) -> tuple[str, ...]:
    """Return every secret that can be read here."""
    try:
        ours = Secrets(paths.SECRETS_FILE).values()
    except (OSError, DockstackError):
        ours = ()
    return (*ours, *(document.secrets() if document else ()))


def _version() -> str:
    try:
        return metadata.version("dockstack")
    except metadata.PackageNotFoundError:
        return "from a checkout"

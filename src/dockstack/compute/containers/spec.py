# SPDX-License-Identifier: Apache-2.0
"""A server as a container: everything that the engine must know, as one value."""

from __future__ import annotations

import json
import logging
import re
import shlex
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from dockstack.compute.containers import limits, namespaces
from dockstack.compute.containers.runtime import Overlay, Patch, Root
from dockstack.compute.engine import ContainerSpec
from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.compute.containers.runtime import Mount
    from dockstack.compute.model import Confinement, Server
    from dockstack.oci.process import ImageConfig

LOG = logging.getLogger(__name__)

# What the labels mean; raise it with their meaning, so that an older server is told from a newer one.
LABELS_VERSION = "1"

# What package managers, sshd, su and login need, and ping; each is one of the engine's own defaults.
CAPABILITIES = (
    "AUDIT_WRITE",  # sshd and su through PAM
    "CHOWN",  # package managers
    "DAC_OVERRIDE",  # root reads and writes everybody's files
    "FOWNER",  # package managers change modes of files they do not own
    "FSETID",  # and keep set-group-id bits
    "KILL",  # an init stops its services
    "NET_BIND_SERVICE",  # ports below 1024
    "NET_RAW",  # ping, DHCP clients; addresses of others are stopped by Neutron's port security
    "SETFCAP",  # packages with file capabilities
    "SETGID",  # login, su, every service that drops privileges
    "SETPCAP",  # inits that drop capabilities for their services
    "SETUID",  # as SETGID
    "SYS_CHROOT",  # sshd's privilege separation
)

# What a server runs, wherever it goes; the engine's names
_PROCESS = (
    "Hostname", "Env", "Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal", "StopTimeout", "Tty",
)  # fmt: skip
_PROCESS_HOST = ("Init", "Tmpfs")

_INITS = ("init", "systemd", "openrc-init", "runit-init", "s6-svscan")
_HOSTNAME_BYTES = 64  # sethostname(2)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_ENV_NAME = re.compile(r"[^=\0]+")
_SIGNAL = re.compile(r"(SIG)?[A-Z]+[0-9]*([+-][0-9]+)?|[0-9]{1,2}")
_ENV_PREFIX = "docker_env_"
_HEALTH_NUMBERS = {"Interval", "Timeout", "StartPeriod", "Retries"}  # the first three in nanoseconds, as the engine's
_HEALTH_EXAMPLE = '{"Test": ["CMD", "/check"], "Interval": 60000000000}'
# How cloud-init knows an OpenStack server where there is no firmware to ask (ds-identify, dscheck_OpenStack)
_PRODUCT, _NOVA = "product_name", "OpenStack Nova"
# As the engine begins /etc/hosts
_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n",
    "::1\tlocalhost ip6-localhost ip6-loopback\n",
    "fe00::0\tip6-localnet\n",
    "ff00::0\tip6-mcastprefix\n",
    "ff02::1\tip6-allnodes\n",
    "ff02::2\tip6-allrouters\n",
)


class PropertyError(DockstackError):
    """An image property or a server's metadata says something that we cannot do."""

    def __init__(self, name: str, problem: str) -> None:
        """Name the property."""
        super().__init__(f"The property {name} {problem}.", f"Correct {name} on the image or in the server's metadata.")


def build_spec(
    server: Server,
    image_id: str,
    image: ImageConfig,
    *,
    host: str,
    runtime: str = "dockstack",
    log_max_size: str = "5m",
    log_max_files: int = 2,
    stop_timeout: int = 30,
    disk: str | None = None,
    sized: bool = False,
) -> ContainerSpec:
    """Decide how a server runs: its metadata wins over the image's properties, and they over the image's configuration.

    Not privileged unless its flavor says so, the engine's seccomp profile, no network but the one that the runtime
    joins. Setuid programs work: root inside is the tenant's anyway, and is confined like everybody else.

    Raises:
        PropertyError: a property is not what it should be, or nothing says what to run.
        DockstackError: the flavor is too small.
    """
    entrypoint, command = _process(server, image)
    settings = _Settings(server)
    return ContainerSpec(
        image=image_id,
        hostname=_hostname(server, settings),
        runtime=server.confinement.runtime or runtime,
        labels=labels(server, image, host),
        limits=limits.host_config(server.limits, disk, sized=sized),
        command=command,
        entrypoint=entrypoint,
        environment=_environment(server, image, settings, init=_is_init(entrypoint + command)),
        user=settings.text("docker_user", image.user),
        working_directory=_directory(settings, image),
        stop_signal=_signal(settings, image),
        stop_timeout=settings.number("docker_stop_timeout", stop_timeout),
        tty=settings.truth("docker_tty", default=False),
        init=settings.truth("docker_init", default=False),
        healthcheck=_healthcheck(settings, image),
        capabilities=_capabilities(server.confinement),
        no_new_privileges=server.confinement.no_new_privileges,
        privileged=server.confinement.privileged,
        devices=server.confinement.devices,
        tmpfs=_tmpfs(entrypoint + command),
        log_max_size=log_max_size,
        log_max_files=log_max_files,
    )


def keep_process(specification: ContainerSpec, process: Mapping[str, Any]) -> ContainerSpec:
    """Return a specification that runs what another container of the same server runs, whatever its image says now.

    Args:
        specification: of the new container.
        process: the old one's, as ``describe_process`` gave it.
    """
    return replace(
        specification,
        hostname=process["Hostname"],
        environment=tuple(process["Env"] or ()),
        entrypoint=tuple(process["Entrypoint"] or ()),
        command=tuple(process["Cmd"] or ()),
        user=process["User"] or "",
        working_directory=process["WorkingDir"] or "",
        stop_signal=process["StopSignal"],
        stop_timeout=process["StopTimeout"],
        tty=bool(process["Tty"]),
        init=bool(process["Init"]),
        tmpfs=dict(process["Tmpfs"] or {}),
    )


def describe_process(configuration: Mapping[str, Any], host_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a container runs, for ``keep_process``.

    Args:
        configuration: the container's "Config" in the engine's words.
        host_config: its "HostConfig".
    """
    return {name: configuration.get(name) for name in _PROCESS} | {
        name: host_config.get(name) for name in _PROCESS_HOST
    }


def build_patch(
    server: Server,
    image: ImageConfig,
    *,
    mounts: tuple[Mount, ...] = (),
    masked_paths: tuple[str, ...] = (),
    roots: tuple[Overlay | Root, ...] = (),
    disk_guard: str = "",
) -> Patch:
    """Say what the runtime changes at each start of the server.

    Declared volumes stay in the server's own root file system: there they count against its disk, go into its snapshots
    and live as long as it does. The engine would put each into a volume that does none of that.

    Args:
        server: whose.
        image: what its image says.
        mounts: what it gets from the host besides.
        masked_paths: what it must not see of the host.
        roots: root file systems of stopped containers that it gets.
        disk_guard: the file system that holds it to its disk, if its processes could get out of that.
    """
    return Patch(
        netns=namespaces.path(server.uuid),
        drop_mounts=tuple(sorted(image.volumes)),
        mounts=mounts,
        masked_paths=masked_paths,
        overlays=tuple(root for root in roots if isinstance(root, Overlay)),
        roots=tuple(root for root in roots if isinstance(root, Root)),
        disk_guard=disk_guard,
        contents={"/etc/hosts": _hosts(server), "/etc/resolv.conf": _resolvers(server)},
        interfaces={port.device: port.interface for port in server.ports},
    )


def labels(server: Server, image: ImageConfig, host: str) -> dict[str, str]:
    """Return what a restart must know, and what an operator filters by.

    Every one is always set, since an image's own labels would show through.
    """
    said = {
        "version": LABELS_VERSION,
        "uuid": server.uuid,
        "name": server.name,
        "hostname": server.hostname,
        "project": server.project_id,
        "user": server.user_id,
        "flavor": server.flavor,
        "image": server.image.id,
        "host": host,
        "volumes": json.dumps(list(own_volumes(server, image))),
        "console": _console(_Settings(server)),
        "rescue": "",
        "crash_signal": _Settings(server).signal("docker_crash_signal", "SIGABRT"),
    }
    return {LABEL_PREFIX + key: _printable(value) for key, value in said.items()}


def choose(server: Server, name: str, default: str, choices: tuple[str, ...]) -> str:
    """Read a setting that is one of a few words.

    Raises:
        PropertyError: it is another.
    """
    value = _Settings(server).text(name, default)
    if value not in choices:
        raise PropertyError(name, f"is {value[:80]!r}, not one of {', '.join(choices)}")
    return value


def runs_init(server: Server, image: ImageConfig) -> bool:
    """Whether the server's first process is an init, which starts what the image has installed."""
    return _is_init(sum(_process(server, image), ()))


def own_volumes(server: Server, image: ImageConfig) -> tuple[str, ...]:
    """Return the declared volumes that stay in the server's own root file system; the others are the engine's.

    Raises:
        PropertyError: docker_volumes says something else.
    """
    return image.volumes if choose(server, "docker_volumes", "ignore", ("ignore", "anonymous")) == "ignore" else ()


def user_of(server: Server, image: ImageConfig) -> str:
    """Return the user of the server's first process as image or request name it; empty for root."""
    return _Settings(server).text("docker_user", image.user)


class _Settings:
    """Reads settings by name: metadata first, then the image's properties."""

    def __init__(self, server: Server) -> None:
        self._found = {**server.image.properties, **server.metadata}

    def text(self, name: str, default: str) -> str:
        return self._found.get(name, default)

    def optional(self, name: str) -> str | None:
        return self._found.get(name)

    def signal(self, name: str, default: str) -> str:
        value = self._found.get(name, default)
        if value and not _SIGNAL.fullmatch(value):
            raise PropertyError(name, f"is {value!r}, not a signal such as SIGTERM")
        return value

    def number(self, name: str, default: int) -> int:
        value = self._found.get(name, str(default))
        if not value.isascii() or not value.isdigit():
            raise PropertyError(name, f"is {value!r}, not a number of seconds")
        return int(value)

    def truth(self, name: str, *, default: bool) -> bool:
        value = str(self._found.get(name, default)).lower()
        if value not in _TRUE + _FALSE:
            raise PropertyError(name, f"is {value!r}, neither true nor false")
        return value in _TRUE

    def json(self, name: str, kind: type[list[str] | dict[str, str]], expected: str) -> Any:
        """Parse a property; None if it is not set."""
        text = self._found.get(name)
        if text is None:
            return None
        try:
            value: Any = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise PropertyError(name, f"is not {expected}: {text[:80]!r}")
        items = list(value.values()) if isinstance(value, dict) else list(value)
        if not all(isinstance(item, str) and "\0" not in item for item in items):
            raise PropertyError(name, f"is not {expected}: {text[:80]!r}")
        return value


def _process(server: Server, image: ImageConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entry point and command; an entry point of one's own drops the image's command, as the engine's does."""
    settings = _Settings(server)
    entrypoint = settings.json("docker_entrypoint", list, "a JSON array of strings")
    command = settings.json("docker_command", list, "a JSON array of strings")
    line = settings.optional("os_command_line")
    if command is None and line is not None:
        try:
            command = shlex.split(line)
        except ValueError as error:
            raise PropertyError("os_command_line", f"is no command line ({error})") from error
    if command is None:
        command = image.command if entrypoint is None else ()
    if entrypoint is None:
        entrypoint = image.entrypoint
    if not entrypoint and not command:
        raise DockstackError(
            f"The image {server.image.name or server.image.id} does not say what to run.",
            'Set the property os_command_line or docker_command on it, for example docker_command=["/sbin/init"].',
        )
    return tuple(entrypoint), tuple(command)


def _environment(server: Server, image: ImageConfig, settings: _Settings, *, init: bool) -> tuple[str, ...]:
    known = {_PRODUCT: _NOVA} if init else {}
    merged = {**known, **image.env, **(settings.json("docker_env", dict, "a JSON object of strings") or {})}
    for name, value in {**server.image.properties, **server.metadata}.items():
        if name.startswith(_ENV_PREFIX):
            merged[name.removeprefix(_ENV_PREFIX)] = value
    for name, value in merged.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in value:
            raise PropertyError("docker_env", f"has a variable that no process can have: {name[:80]!r}")
    return tuple(f"{name}={value}" for name, value in merged.items())


def _directory(settings: _Settings, image: ImageConfig) -> str:
    directory = settings.text("docker_workdir", image.working_directory)
    if directory and not PurePosixPath(directory).is_absolute():
        raise PropertyError("docker_workdir", f"is {directory!r}, not an absolute path")
    return directory


def _signal(settings: _Settings, image: ImageConfig) -> str | None:
    return settings.signal("docker_stop_signal", image.stop_signal or "") or None


def _hostname(server: Server, settings: _Settings) -> str:
    hostname = settings.text("docker_hostname", server.hostname)
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", hostname):
        raise PropertyError("docker_hostname", f"is {hostname!r}, not a host name")
    return hostname[:_HOSTNAME_BYTES].rstrip(".-")


def _hosts(server: Server) -> str:
    """Let the server resolve its own name."""
    addresses = [address.cidr.partition("/")[0] for port in server.ports for address in port.addresses]
    return "".join([*_LOCAL_HOSTS, *(f"{address}\t{server.hostname}\n" for address in addresses)])


def _resolvers(server: Server) -> str:
    """Name the DNS servers of its subnets; never the host's, which are none of a server's business."""
    addresses = dict.fromkeys(address for port in server.ports for address in port.dns)
    return "".join(f"nameserver {address}\n" for address in addresses) or "# Its subnets name no DNS server.\n"


def _tmpfs(process: tuple[str, ...]) -> dict[str, str]:
    """An init expects /run empty at each boot; what a plain service keeps there came with its image."""
    if not _is_init(process):
        return {}
    return {"/run": "rw,nosuid,nodev,noexec,mode=755"}


def _console(settings: _Settings) -> str:
    """Say what answers on the serial console; empty: what consoles/backend.py finds in the image."""
    command = settings.json("docker_console_command", list, "a JSON array of strings")
    if command is None:
        return ""
    return json.dumps({"command": command, "user": settings.text("docker_console_user", "")})


def _printable(value: str) -> str:
    """Drop what UTF-8 cannot carry; everything else is safe in a label."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _is_init(process: tuple[str, ...]) -> bool:
    return PurePosixPath(process[0]).name in _INITS


def _capabilities(confinement: Confinement) -> tuple[str, ...]:
    wanted = dict.fromkeys((*CAPABILITIES, *confinement.cap_add))
    return tuple(name for name in wanted if name not in confinement.cap_drop)


def _healthcheck(settings: _Settings, image: ImageConfig) -> dict[str, Any]:
    """Return the engine's health check: none, unless somebody wants one; each would wake the server for ever."""
    text = settings.text("docker_healthcheck", "none")
    if text == "none":
        return {"Test": ["NONE"]}
    if text == "image":
        return image.healthcheck or {"Test": ["NONE"]}
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    test = found.get("Test") if isinstance(found, dict) else None
    numbers = {key: value for key, value in found.items() if key != "Test"} if isinstance(found, dict) else {}
    if (
        not isinstance(test, list)
        or not all(isinstance(word, str) for word in test)
        or test[:1] not in (["NONE"], ["CMD"], ["CMD-SHELL"])
        or not numbers.keys() <= _HEALTH_NUMBERS
        or not all(type(value) is int and value >= 0 for value in numbers.values())
    ):
        raise PropertyError(
            "docker_healthcheck", f"is neither none, image nor an object such as {_HEALTH_EXAMPLE}: {text[:80]!r}"
        )
    return {"Test": test, **numbers}

# SPDX-License-Identifier: Apache-2.0
"""A server as a container: everything that the engine must know, as one value."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from dockstack.compute.containers import editor, healthcheck, inits, limits, namespaces, signals, sysctls, volumes
from dockstack.compute.containers.properties import ImageFieldError, Properties, PropertyError, can_be_word, shown
from dockstack.compute.containers.runtime import Disk, Overlay, Patch, Root, RootVolume
from dockstack.compute.engine import ContainerSpec
from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX, MOUNT_SOCKET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockstack.compute.containers.runtime import Mount
    from dockstack.compute.model import Confinement, Server
    from dockstack.oci.process import ImageConfig

# What the labels mean; raise it with their meaning, so that an older server is told from a newer one.
LABELS_VERSION = "1"
INIT_LABEL = LABEL_PREFIX + "init"

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

# An init switches its system off and on again. In a process namespace of its own, reboot(2) does no more than end that
# namespace (reboot(2)); the other use of this right, kexec_load, every server's runtime refuses (editor.py).
REBOOT = "SYS_BOOT"

# What a server runs, wherever it goes; the engine's names
_PROCESS = (
    "Hostname", "Env", "Entrypoint", "Cmd", "User", "WorkingDir", "StopSignal", "StopTimeout", "Tty",
)  # fmt: skip
_PROCESS_HOST = ("Init", "Tmpfs")

_HOSTNAME_BYTES = 64  # sethostname(2)
_ENV_NAME = re.compile(r"[^=\0]+")
_ENV_PREFIX = "docker_env_"
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_NO_HOSTNAME = re.compile(r"[^A-Za-z0-9.-]+")
_STOP_SECONDS = 3600  # an engine that is stopped waits so long for its servers
_PATH_BYTES = 4096  # PATH_MAX
_WORD_BYTES = 128 << 10  # execve(2): MAX_ARG_STRLEN
_PROCESS_BYTES = 1 << 20  # execve(2) takes a quarter of the stack's limit, 2 MiB
_CONSOLE_BYTES = 4096  # in a label, which comes with every listing of the host's containers
# How cloud-init knows an OpenStack server where there is no firmware to ask (ds-identify, dscheck_OpenStack)
_PRODUCT, _NOVA = "product_name", "OpenStack Nova"
# neutron: admin/config-dns-res
_NO_RESOLVER = ("0.0.0.0", "::")
# As the engine begins /etc/hosts
_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost\n",
    "::1\tlocalhost ip6-localhost ip6-loopback\n",
    "fe00::0\tip6-localnet\n",
    "ff00::0\tip6-mcastprefix\n",
    "ff02::1\tip6-allnodes\n",
    "ff02::2\tip6-allrouters\n",
)


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
    least_interval: int = healthcheck.LEAST_INTERVAL,
    disk: str | None = None,
    sized: bool = False,
) -> ContainerSpec:
    """Decide how a server runs: its metadata wins over the image's properties, and they over the image's configuration.

    Not privileged unless its flavor says so, the engine's seccomp profile, no network but the one that the runtime
    joins. Setuid programs work: root inside is the tenant's anyway, and is confined like everybody else.

    Raises:
        PropertyError: a property is not what it should be, or nothing says what to run.
        ImageFieldError: a field of the image's own configuration is not, and no property wins over it.
        VolumeError: the image declares a volume where none can be.
        DockstackError: the flavor is too small.
    """
    entrypoint, command = _process(server, image)
    settings = _settings(server)
    process = entrypoint + command
    init = inits.find(image.init)
    environment = _environment(image, settings, init=inits.is_init(process[0]))
    _check_size(process + environment)
    return ContainerSpec(
        image=image_id,
        hostname=_hostname(server, settings),
        runtime=server.confinement.runtime or runtime,
        labels=labels(server, image, host),
        limits=limits.host_config(server.limits, disk, sized=sized),
        command=command,
        entrypoint=entrypoint,
        environment=environment,
        user=_user(settings, image),
        working_directory=_directory(settings, image),
        stop_signal=_signal(settings, image) or init.stop_signal or None,
        stop_timeout=settings.number("docker_stop_timeout", stop_timeout, largest=max(_STOP_SECONDS, stop_timeout)),
        tty=settings.truth("docker_tty", default=init.tty),
        init=settings.truth("docker_init", default=False),
        healthcheck=healthcheck.build(settings, image, least_interval),
        capabilities=_capabilities(server.confinement, process[0]),
        no_new_privileges=server.confinement.no_new_privileges,
        privileged=server.confinement.privileged,
        devices=server.confinement.devices,
        tmpfs=dict(init.tmpfs) if inits.is_systems(process[0]) else {},  # else what came with the image stays there
        mounts=tuple(volumes.cover(image.volumes)),
        log_max_size=log_max_size,
        log_max_files=log_max_files,
    )


def keep_process(specification: ContainerSpec, process: Mapping[str, Any]) -> ContainerSpec:
    """Return a specification with the command, environment and so on of an earlier container of the same server.

    The image may say something else by now; a server that moves goes on with what it was created with.

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
        labels=specification.labels | {INIT_LABEL: process.get("FoundInit", "")},
    )


def describe_process(configuration: Mapping[str, Any], host_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a container runs, for ``keep_process``.

    Args:
        configuration: the container's "Config" in the engine's words.
        host_config: its "HostConfig".
    """
    return {
        **{name: configuration.get(name) for name in _PROCESS},
        **{name: host_config.get(name) for name in _PROCESS_HOST},
        "FoundInit": (configuration.get("Labels") or {}).get(INIT_LABEL, ""),
    }


def build_patch(
    server: Server,
    image: ImageConfig,
    *,
    mounts: tuple[Mount, ...] = (),
    masked_paths: tuple[str, ...] = (),
    roots: tuple[Overlay | Root, ...] = (),
    devices: tuple[Disk, ...] = (),
    root_volume: RootVolume | None = None,
    disk_guard: str = "",
    resolvers: tuple[str, ...] = (),
) -> Patch:
    """Say what the runtime changes at each start of the server.

    Declared volumes stay in the server's own root file system: there they count against its disk, go into its snapshots
    and live as long as it does. What covered them from the engine is taken off.

    Args:
        server: whose.
        image: what its image says.
        mounts: what it gets from the host besides.
        masked_paths: what it must not see of the host.
        roots: root file systems of stopped containers that it gets.
        devices: its volumes.
        root_volume: what is its root file system, if that is on a volume.
        disk_guard: the file system that holds it to its disk, if its processes could get out of that.
        resolvers: the DNS servers that it gets if its subnets name none.
    """
    init = inits.find(image.init)
    return Patch(
        netns=namespaces.path(server.uuid),
        drop_mounts=volumes.uncovered(image.volumes),
        mounts=mounts,
        masked_paths=masked_paths,
        overlays=tuple(root for root in roots if isinstance(root, Overlay)),
        roots=tuple(root for root in roots if isinstance(root, Root)),
        devices=devices,
        root_volume=root_volume,
        disk_guard="" if root_volume else disk_guard,
        shm_bytes=(server.limits.memory_mb << 20) // 2,  # as a machine's kernel has it
        contents={"/etc/hosts": hosts(server), "/etc/resolv.conf": _resolvers(server, resolvers)},
        environment={name: value.format(uuid=server.uuid) for name, value in init.environment.items()},
        own_groups=init.own_groups,
        sysctls=sysctls.WRITABLE,
        interfaces={port.device: port.interface for port in server.ports},
        volume_mounts="" if server.confinement.volume_mounts == "none" else server.confinement.volume_mounts,
        mount_socket=str(MOUNT_SOCKET),
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
        "volumes": json.dumps(list(volumes.uncovered(image.volumes))),
        "console": _console(_settings(server)),
        "init": image.init,
        "rescue": "",
        "payload": "",
        "root": server.root_volume,
        "crash_signal": _settings(server).signal("docker_crash_signal", "SIGABRT") or "SIGABRT",
    }
    return {LABEL_PREFIX + key: _printable(value) for key, value in said.items()}


def hosts(server: Server) -> str:
    """Return the /etc/hosts that lets a server resolve its own name, to the addresses that it has."""
    name = _derived_hostname(server)
    addresses = [address.cidr.partition("/")[0] for port in server.ports for address in port.addresses]
    begin, end = editor.OWN_LINES
    return "".join([*_LOCAL_HOSTS, begin, *(f"{address}\t{name}\n" for address in addresses), end])


def choose(server: Server, name: str, default: str, choices: tuple[str, ...]) -> str:
    """Read a setting that is one of a few words.

    Raises:
        PropertyError: it is another.
    """
    return _settings(server).choice(name, default, choices)


def runs_init(server: Server, image: ImageConfig) -> bool:
    """Whether the server's first process is an init, which starts what the image has installed."""
    return inits.is_init(find_program(server, image))


def find_program(server: Server, image: ImageConfig) -> str:
    """Name the program of the server's first process.

    Raises:
        DockstackError: nothing says what to run.
    """
    return sum(_process(server, image), ())[0]


def user_of(server: Server, image: ImageConfig) -> str:
    """Return the user of the server's first process as image or request name it; empty for root."""
    return _user(_settings(server), image)


def _user(settings: Properties, image: ImageConfig) -> str:
    return settings.text("docker_user", image.user, field="User")


def _settings(server: Server) -> Properties:
    return Properties(server.image.properties, server.metadata)


def _process(server: Server, image: ImageConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return entry point and command; an entry point of one's own drops the image's command, as the engine's does."""
    settings = _settings(server)
    entrypoint = settings.strings("docker_entrypoint")
    of_image, of_server = settings.levels()
    command = _command(of_server)
    if command is None:
        command = _command(of_image)
    if command is None:
        command = image.command if entrypoint is None else ()
    if entrypoint is None:
        entrypoint = image.entrypoint
    if not entrypoint and not command:
        raise DockstackError(
            f"The image {server.image.name or server.image.id} does not say what to run.",
            'Set the property os_command_line or docker_command on it, for example docker_command=["/sbin/init"].',
        )
    return entrypoint, command


def _command(settings: Properties) -> tuple[str, ...] | None:
    """Read a command in either form; None if there is none."""
    command = settings.strings("docker_command")
    line = settings.optional("os_command_line")
    if command is not None or line is None:
        return command
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise PropertyError("os_command_line", f"is no command line ({error})") from error


def _environment(image: ImageConfig, settings: Properties, *, init: bool) -> tuple[str, ...]:
    known = {_PRODUCT: _NOVA} if init else {}
    chosen: dict[str, str] = {}
    for level in settings.levels():
        chosen |= level.mapping("docker_env") | level.prefixed(_ENV_PREFIX)
    merged = {**known, **image.env, **chosen}
    for name, value in merged.items():
        if not _ENV_NAME.fullmatch(name) or not can_be_word(name + value):
            problem = f"has a variable that no process can have: {shown(name)}"
            if name in chosen:
                raise PropertyError("docker_env", problem)
            raise ImageFieldError("Env", problem, f"docker_env_{name}" if can_be_word(name) else "docker_env")
    return tuple(f"{name}={value}" for name, value in merged.items())


def _check_size(words: tuple[str, ...]) -> None:
    """Refuse what the kernel would not start, before the engine keeps a record of it.

    Raises:
        DockstackError: command and environment are too large, or hold what no process can have.
    """
    sizes = [len(word.encode("utf-8", "replace")) + 1 for word in words]
    if max(sizes) > _WORD_BYTES or sum(sizes) > _PROCESS_BYTES:
        raise DockstackError(
            f"The server's command and environment have {sum(sizes)} bytes, the longest of them {max(sizes)}.",
            f"At most {_PROCESS_BYTES} and {_WORD_BYTES} can be: shorten docker_env, docker_command and their like, "
            "or the image's own Env, Cmd and Entrypoint.",
        )
    if not all(map(can_be_word, words)):
        raise DockstackError(
            "The server's command holds a NUL, or what is no text.",
            "Correct docker_command and docker_entrypoint, or the image's own Cmd and Entrypoint.",
        )


def _directory(settings: Properties, image: ImageConfig) -> str:
    field = "WorkingDir"
    directory = settings.text("docker_workdir", image.working_directory, longest=_PATH_BYTES, field=field)
    if directory and not PurePosixPath(directory).is_absolute():
        raise settings.blame("docker_workdir", field, f"is {shown(directory)}, not an absolute path")
    return directory


def _signal(settings: Properties, image: ImageConfig) -> str | None:
    """Choose the stop signal; what an image names that is none counts as SIGTERM, as for every engine."""
    try:
        own = signals.spell(image.stop_signal or "SIGTERM")
    except signals.NoSignal:
        own = "SIGTERM"
    return settings.signal("docker_stop_signal", own if image.stop_signal else "") or None


def _hostname(server: Server, settings: Properties) -> str:
    hostname = settings.text("docker_hostname", _derived_hostname(server))
    if not _HOSTNAME.fullmatch(hostname):
        raise PropertyError("docker_hostname", f"is {shown(hostname)}, not a host name")
    return hostname[:_HOSTNAME_BYTES].rstrip(".-")


def _derived_hostname(server: Server) -> str:
    """Make a host name of Nova's, which may have letters that none can have: Nova drops those beyond Latin-1 alone."""
    legal = _NO_HOSTNAME.sub("", server.hostname).strip(".-")[:_HOSTNAME_BYTES].rstrip(".-")
    return legal or f"server-{server.uuid}"


def _resolvers(server: Server, others: tuple[str, ...]) -> str:
    """Name the DNS servers of its subnets, else those of the cloud; never the host's, which are none of its business.

    A subnet that names none on purpose says so by an address that is nobody's, as for Neutron's DHCP.
    """
    named = [address for port in server.ports for address in port.dns]
    addresses = [address for address in dict.fromkeys(named or others) if address not in _NO_RESOLVER]
    return "".join(f"nameserver {address}\n" for address in addresses) or "# Its subnets name no DNS server.\n"


def _console(settings: Properties) -> str:
    """Say what answers on the serial console; empty: what consoles/backend.py finds in the image."""
    command = settings.strings("docker_console_command")
    if command is None:
        return ""
    said = json.dumps({"command": command, "user": settings.text("docker_console_user", "")})
    if not command or len(said) > _CONSOLE_BYTES:
        raise PropertyError("docker_console_command", f"is empty, or has more than {_CONSOLE_BYTES} characters")
    return said


def _printable(value: str) -> str:
    """Drop what UTF-8 cannot carry; everything else is safe in a label."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _capabilities(confinement: Confinement, program: str) -> tuple[str, ...]:
    own = (REBOOT,) if inits.is_systems(program) else ()
    wanted = dict.fromkeys((*CAPABILITIES, *own, *confinement.cap_add))
    return tuple(name for name in wanted if name not in confinement.cap_drop)

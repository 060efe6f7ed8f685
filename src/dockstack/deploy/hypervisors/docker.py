# SPDX-License-Identifier: Apache-2.0
"""Docker as the hypervisor: the distribution's engine, or an engine that is installed already.

That engine may serve others too, so no container, image or key of daemon.json is changed that is not ours.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.hypervisors import daemon_json, engine_file, lxcfs, storage
from dockstack.deploy.hypervisors.engine import SERVICE, SYSTEM_CONTAINERD, engine_of
from dockstack.deploy.hypervisors.engine_file import DISPATCHER, RUNTIME
from dockstack.deploy.hypervisors.model import Contribution, Hypervisor
from dockstack.deploy.hypervisors.nova_compute import OURS
from dockstack.deploy.node import environments, own_package
from dockstack.deploy.node.output import ENGINE_LIMIT, StepFailedError
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.supervision.services import Check, CheckKind, Service
from dockstack.errors import DockstackError
from dockstack.names import IMAGE_DOMAIN, NAME_PREFIX, NAMESPACES, UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.hypervisors.nova_compute import NovaCompute
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes

CONTAINER_LINE = f'{{{{.ID}}}} {{{{.Names}}}} {{{{.Label "{UUID_LABEL}"}}}}'
IMAGE_REFERENCE = f"{IMAGE_DOMAIN}/*"
# The pattern of a uuid: another program's namespace may begin with "nova-", too.
SERVER_NAMESPACES = f"{NAMESPACES}/{NAME_PREFIX}" + "-".join("[0-9a-f]" * digits for digits in (8, 4, 4, 4, 12))
PROGRAMS = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd")
MACHINES_UNITS = ("docker.socket", "docker.service")  # the first would start the second
NOVA_HOME = "/var/lib/nova"
DRIVER_STATE = OURS.state
METRICS_FILE = f"{NOVA_HOME}/compute.prom"  # what nova-compute counts; a host of its own on one machine has its own
HANG_UP_BY_PIDFILE = "pid=$(cat /run/docker.pid) && grep -qx dockerd /proc/$pid/comm && kill -HUP $pid"
HANG_UP_BY_SYSTEMD = "systemctl kill --signal=HUP --kill-whom=main docker.service"


class Docker(Hypervisor):
    """The engine of one node."""

    name = SERVICE

    def __init__(self, attributes: Attributes, nova: NovaCompute = OURS) -> None:
        """Take the node's attributes, and whose servers these are."""
        self._nova = nova
        self._group = attributes.text("docker.group")
        self._mode = attributes.number("docker.socket_mode")
        self._engine = engine_of(attributes)
        self._socket = self._engine.socket
        self._package = attributes.text("docker.package")
        self._lxcfs = attributes.flag("docker.lxcfs")
        self._resolvers = attributes.items("network.dns")  # as [ovn] dns_servers
        self._counting = attributes.flag("telemetry.prometheus")
        self._volume = storage.wanted(attributes)
        self._wanted = engine_file.wanted_keys(attributes)

    def contribution(self) -> Contribution:
        """Name the driver, the image format, the engine's group, and the files that decide on a restart."""
        options = (
            ("host_url", f"unix://{self._socket}"),
            ("patch_directory", paths.PATCH_DIRECTORY),
            ("state_directory", self._nova.state),
            ("lxcfs_directory", paths.LXCFS_DIRECTORY if self._lxcfs else ""),
            *((("dns_servers", ",".join(self._resolvers)),) if self._resolvers else ()),
            *((("metrics_file", METRICS_FILE),) if self._counting else ()),
        )
        return Contribution(
            compute_driver="docker.DockerDriver",
            container_formats=("docker", "dockerref"),
            groups=(self._group,),
            watch=(paths.DRIVER_MARKER,),
            nova=(("docker", options),),
            metadata_extension="dockstack_metadata",
            agent_watch=(paths.DRIVER_MARKER,),
        )

    def packages(self, distribution: Distribution, *, engine: bool, client: bool) -> tuple[str, ...]:
        """Name the engine's packages where there is no engine, its client's where that is missing, and LXCFS's."""
        missing = (() if engine else ("dockerd",)) + (() if client else ("docker",))
        found = (self._package,) if self._package and not engine else distribution.packages_of(*missing)
        return (*found, *(distribution.packages_of(lxcfs.NAME) if self._lxcfs else ()))

    def edits(self) -> Mapping[str, Callable[[str | None], str]]:
        """Merge what we need into the engine's configuration."""
        path = self._engine.daemon_json
        return {path: lambda text: daemon_json.merge(text, self._wanted, path)}

    def install(self, machine: Machine) -> None:
        """Have an engine, its group and its storage; an engine that is installed already is used as it is."""
        for volume in storage.all_wanted(machine.attributes):  # here, as stages of several hosts run at once
            storage.provide(machine, volume)
        distribution = machine.distribution
        if self._program(machine) is None:
            if self._engine.own:
                distribution_units.hold(machine, MACHINES_UNITS)
            machine.packages(*engine_packages(machine))
        if not machine.run("command -v docker", check=False).ok:  # an engine's packages may come without the client
            machine.packages(*distribution.packages_of("docker"))
        if self._lxcfs:
            distribution_units.hold(machine, distribution.units[lxcfs.NAME])
            machine.packages(*distribution.packages_of(lxcfs.NAME))
        machine.group(self._group)
        if self._nova.ours:
            machine.user(self._nova.user, home=NOVA_HOME, groups=(self._group,))

    def configure(self, machine: Machine) -> None:
        """Install the driver and its door beside Nova, and the runtime wrapper; register that in daemon.json."""
        if self._nova.ours:
            environments.ensure_wheel(machine, paths.OPENSTACK_VENV, extras_installed=paths.DRIVER_MARKER)
            self._install_door(machine)  # after the wheel: older ones held the door, and take it along
        self._install_runtime(machine)
        engine_file.place(machine, self._engine, self._wanted)
        if self._counting:
            machine.manifest.made("file", METRICS_FILE)

    def start(self, machine: Machine) -> None:
        """Have the engine running with our runtime registered; it is reloaded, as a restart could end containers."""
        if self._foreign(machine):
            machine.say("Using the engine that runs here already")
        else:
            ensure_running(machine, self.service(machine))
        info = self._info(machine)
        if not self._configured(info):
            machine.say("Reloading the engine's configuration")
            self._reload(machine)
        storage.require_driver(self._volume, str(info.get("Driver")))
        self._secure_socket(machine)
        if self._lxcfs:
            lxcfs.start(machine)

    def stop(self, machine: Machine) -> None:
        """Stop the engine if it is ours. Its containers go on (live-restore) and see the machine without LXCFS."""
        if self._lxcfs and self._answers(machine):
            lxcfs.withdraw(machine, self._nova, self._socket)
        for service in self._recorded(machine):
            machine.backend.stop(service)

    def refuse_hung(self, machine: Machine) -> None:
        """Refuse to go on beside an engine of ours that runs and does not answer, as its servers would be left behind.

        Likewise beside one of our own in which somebody has containers, which would go with it.
        """
        for service in self._recorded(machine):
            seen = machine.backend.look(service)
            if seen.running and not self._answers(machine):
                raise DockstackError(
                    f"The engine (pid {seen.pid}) does not answer within {ENGINE_LIMIT} s, so its servers cannot be "
                    "removed.",
                    f"Have it started again: kill -9 {seen.pid}. Its containers go on meanwhile. Then try again.",
                )
        if self._engine.own and self._answers(machine):
            lines = machine.run(self._client("ps", "-a", "--no-trunc", "--format", CONTAINER_LINE)).lines
            ours = our_containers(lines)
            others = [line.split()[1] for line in lines if line.split()[0] not in ours]
            if others:
                raise DockstackError(
                    f"{len(others)} containers in dockstack's own engine are not servers: {', '.join(others[:5])}.",
                    f"They would go with it. Remove them (docker -H unix://{self._socket} rm), then try again.",
                )

    def cleanup(self, machine: Machine) -> None:
        """Remove our containers, images, namespaces and keys; containers and images of others stay."""
        wanted = self._wanted
        if self._answers(machine):
            self._remove_servers(machine)
            lxcfs.remove_mount(machine)
            if storage.note_emptiness(machine, self._others(machine)):
                wanted = replace(wanted, data_root=None, storage_driver=None)
            if not self._engine.own:
                self._hand_over(machine)
        machine.run(
            f"for space in {SERVER_NAMESPACES}; do test -e $space && ip netns delete $(basename $space); done; true",
        )
        if engine_file.put_back(machine, self._engine, wanted):
            if self._foreign(machine):
                self._hang_up(machine)
            machine.manifest.forget_done(engine_file.BEFORE)

    def service(self, machine: Machine) -> Service:
        """Return the engine as a service of ours: the distribution's unit where there is one."""
        program = self._program(machine)
        if program is None:
            raise DockstackError(
                "There is no dockerd on this node.",
                f"Install {' '.join(engine_packages(machine))}, or set docker.package.",
            )
        client = self._client("version", "--format", "{{.Server.Version}}")
        engine = self._engine
        places = (f"--host=unix://{engine.socket}", f"--group={self._group}", f"--pidfile={engine.pidfile}")
        return Service(
            name=self.name,
            title="Docker engine",
            command=(program, *places, *engine.options, *self._containerd(machine)),
            log="" if engine.own else "/var/log/docker.log",
            check=Check(CheckKind.COMMAND, command=tuple(client)),
            packages=engine_packages(machine)[:1],
            unit=None if engine.own else engine.unit,
            prepare=(
                *((self._volume.mount_command,) if self._volume else ()),
                ("install", "-d", "-m", "755", paths.RUN if engine.own else "/etc/docker"),
            ),
            kill_mode="process",
            oom_score=-500,
        )

    # -- inside ---------------------------------------------------------------------------------------------------

    def _containerd(self, machine: Machine) -> tuple[str, ...]:
        """Return the option that binds an engine of our own to the machine's containerd, if it has one.

        As it was at the first start: an engine that finds another one has lost its containers.
        """
        if not self._engine.own:
            return ()
        recorded = self._recorded(machine)
        if recorded:
            return tuple(word for word in recorded[0].command if word.startswith("--containerd="))
        return (f"--containerd={SYSTEM_CONTAINERD}",) if machine.exists(SYSTEM_CONTAINERD) else ()

    def _hand_over(self, machine: Machine) -> None:
        """Let the distribution's engine go on if containers of others run on it.

        A restart would end them, because our live-restore is taken out of its configuration. Under our own supervisor
        the engine cannot go on, as its parent process ends.
        """
        others = machine.run(self._client("ps", "-q"), limit=ENGINE_LIMIT).stdout.split()
        if not others or machine.backend.name != "systemd":
            return
        machine.say(f"Leaving the engine running, for {len(others)} containers are not ours")
        for service in self._recorded(machine):
            machine.backend.remove(replace(service, stoppable=False))
            machine.records.forget(service.name)

    def _program(self, machine: Machine) -> str | None:
        found = machine.run(" || ".join(f"ls {path} 2>/dev/null" for path in PROGRAMS), check=False).stdout.split()
        return found[0] if found else None

    def _client(self, *arguments: str) -> list[str]:
        return ["docker", "-H", f"unix://{self._socket}", *arguments]

    def _answers(self, machine: Machine) -> bool:
        return machine.run(
            self._client("version", "--format", "{{.Server.Version}}"), check=False, limit=ENGINE_LIMIT
        ).ok

    def _foreign(self, machine: Machine) -> bool:
        """Return whether an engine answers on the socket, and it is not one that we started."""
        if self._engine.own:
            return False
        ours = any(machine.backend.look(service).running for service in self._recorded(machine))
        return not ours and self._answers(machine)

    def _recorded(self, machine: Machine) -> list[Service]:
        """Return the engine's service if we started it; nothing if the engine was there before."""
        return [service for service in machine.records.services() if service.name == self.name]

    def _info(self, machine: Machine) -> dict[str, Any]:
        answer = machine.run(self._client("info", "--format", "{{json .}}"), limit=ENGINE_LIMIT)
        return dict(json.loads(answer.stdout))

    def _configured(self, info: dict[str, Any]) -> bool:
        runtime = (info.get("Runtimes") or {}).get(RUNTIME) or {}
        return bool(info.get("LiveRestoreEnabled")) and runtime.get("path") == DISPATCHER

    def _install_door(self, machine: Machine) -> None:
        program, nova = f"{paths.CLI_VENV}/bin/dockstack", ("--python", self._nova.python)
        question = [program, "driver", "check", "--no-load", *nova]
        machine.command([program, "driver", "install", *nova], unless=question)

    def _install_runtime(self, machine: Machine) -> None:
        line = self._nova.program("dockstack.compute.containers.runtime")
        line += ["--directory", paths.RUNTIME_DIRECTORY, "--patches", paths.PATCH_DIRECTORY]
        line += ["--source", self._nova.state]
        look = f"cat {paths.RUNTIME_DIRECTORY}/* | sha256sum | cut -c1-16"
        machine.directory(paths.RUNTIME_DIRECTORY)
        machine.directory(paths.PATCH_DIRECTORY, owner=self._nova.user, mode=0o755)
        machine.directory(self._nova.state, owner=self._nova.user, mode=0o700)
        key = f"{own_package.source_hash()} {machine.run(look, check=False).stdout.strip()}"
        if machine.manifest.done("runtime") != key:
            machine.command(line)
            after = machine.run(look).stdout.strip()
            machine.manifest.set_done("runtime", f"{own_package.source_hash()} {after}")

    def _reload(self, machine: Machine) -> None:
        self._hang_up(machine)
        wait = f"for i in $(seq 100); do {shlex.join(self._client('info', '--format', '{{json .Runtimes}}'))}"
        wait += f" | grep -q '\"{RUNTIME}\"' && exit 0; sleep 0.1; done; exit 1"
        if machine.run(wait, check=False).ok and self._configured(self._info(machine)):
            return
        running = machine.run(self._client("ps", "-q"), limit=ENGINE_LIMIT).stdout.split()
        raise StepFailedError(
            "The engine did not take over live-restore and the runtime from its daemon.json.",
            f"Was it started with options that daemon.json contradicts? {len(running)} containers run on it, so it "
            "is not restarted for you: restart it when that suits you, then run `dockstack up` again.",
        )

    def _hang_up(self, machine: Machine) -> None:
        """Have the engine on our socket, and no other of this machine, read its daemon.json again."""
        pids = [seen.pid for service in self._recorded(machine) if (seen := machine.backend.look(service)).pid]
        line = f"kill -HUP {pids[0]}" if pids else f"{{ {HANG_UP_BY_PIDFILE}; }} || {HANG_UP_BY_SYSTEMD}"
        if not machine.run(line, check=False).ok:
            raise StepFailedError(
                "The engine's process was not found, so its configuration could not be reloaded.",
                f"Reload it yourself (SIGHUP to the dockerd on {self._socket}), then run `dockstack up` again.",
            )
        machine.changes += 1

    def _secure_socket(self, machine: Machine) -> None:
        wanted = f"root:{self._group} {self._mode:o}"
        socket = shlex.quote(self._socket)
        if machine.run(["stat", "-L", "-c", "%U:%G %a", self._socket], check=False).stdout.strip() != wanted:
            machine.command(f"chown root:{self._group} {socket} && chmod {self._mode:o} {socket}")

    def _others(self, machine: Machine) -> list[str]:
        """Return what else is in the engine besides our servers."""
        questions = (("ps", "-aq"), ("images", "-q"), ("volume", "ls", "-q"))
        return [line for question in questions for line in machine.run(self._client(*question)).lines]

    def _remove_servers(self, machine: Machine) -> None:
        listed = ["ps", "-a", "--no-trunc", "--filter", f"label={UUID_LABEL}", "--format", CONTAINER_LINE]
        containers = our_containers(machine.run(self._client(*listed)).lines)
        if containers:
            machine.say(f"Removing {len(containers)} servers")
            machine.command(self._client("rm", "-f", "-v", *containers))
        images = ["images", "--filter", f"reference={IMAGE_REFERENCE}", "--format", "{{.Repository}}:{{.Tag}}"]
        for name in machine.run(self._client(*images)).lines:
            # By name, without force: the same content may have names of others, or containers.
            machine.run(self._client("rmi", name), check=False)


def engine_packages(machine: Machine) -> tuple[str, ...]:
    """Return the packages of the engine, itself first: the distribution's, with its client, or the attribute's."""
    named = machine.attributes.text("docker.package")
    return (named,) if named else machine.distribution.packages_of("dockerd", "docker")


def our_containers(lines: Iterable[str]) -> list[str]:
    """Choose the ids of servers from lines of CONTAINER_LINE.

    The label alone is not enough: an image made from a server carries it, and so do containers that others run from
    that image.
    """
    found = [line.split() for line in lines]
    return [words[0] for words in found if len(words) == 3 and words[1].startswith(f"nova-{words[2]}")]  # noqa: PLR2004

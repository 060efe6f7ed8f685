# SPDX-License-Identifier: Apache-2.0
"""A host in memory: an engine, a kernel and a switch that remember, and that fail or die where a test wants it.

The fakes stand at the outermost doors only (the engine's methods, the privileged functions, the switch), so that all of
the driver's own code runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import queue
import socket
import tarfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import image_archives
from dockstack.compute.containers import editor
from dockstack.compute.engine import (
    Conflict,
    Container,
    EngineError,
    EngineImage,
    EngineInfo,
    EngineUnavailable,
    Event,
    EventKind,
    Execution,
    GuestFile,
    Layers,
    NotFound,
    Program,
    Stream,
)
from dockstack.compute.flows import volumes
from dockstack.compute.model import PowerState
from dockstack.compute.network import ovs, veth
from dockstack.compute.privileged import archives, boot_volumes, copies, hosts_file, server_devices, shims
from dockstack.compute.privileged import network as privileged
from dockstack.compute.privileged import volumes as privileged_volumes
from dockstack.compute.resources import cgroups, usage
from dockstack.compute.resources.usage import Memory
from dockstack.compute.volumes import connector
from dockstack.names import NAME_PREFIX, RESCUE_LABEL, UUID_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MACHINE = "x86_64"


class Killed(BaseException):
    """kill -9: nothing of this process runs any more, no undo either."""


@dataclass
class Fault:
    """Where and how the host fails: at the n-th step, or at each of a name, before or after its effect."""

    step: int | str
    error: Callable[[], BaseException]
    after: bool = False


@dataclass
class World:
    """What outlives a process: containers, images, namespaces, links, switch ports, patches."""

    directory: Path
    containers: dict[str, Container] = field(default_factory=dict)
    specs: dict[str, Any] = field(default_factory=dict)
    images: dict[str, EngineImage] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)  # device: namespace
    switch: dict[str, str] = field(default_factory=dict)  # device: server
    wired: dict[str, dict[str, Any]] = field(default_factory=dict)  # device: what the server's end got
    silent: set[str] = field(default_factory=set)  # devices that are down
    memory: Memory = field(default_factory=lambda: Memory(16384, 12288, swap_mb=2048))
    installed: set[str] = field(default_factory=set)  # ids of the ports whose flows the switch calls complete
    log: bytes = b""
    inside: dict[str, bytes] = field(default_factory=dict)  # what every image has: content by path
    leads: dict[str, str] = field(default_factory=dict)  # where paths in every image lead
    copied: dict[tuple[str, str], bytes | None] = field(default_factory=dict)  # by owner and name
    standing: dict[tuple[str, str], str] = field(default_factory=dict)  # who stands still for a copy
    placed: dict[str, bytes] = field(default_factory=dict)  # what archives brought: content by path
    executed: list[tuple[list[str], bytes]] = field(default_factory=list)  # command and standard input
    exit_code: int = 0  # of the next commands
    root_file_system: bytes = image_archives.rootfs(("root/written", b"by the server"))  # what every server has
    held: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # volumes, by server and volume
    connected: set[str] = field(default_factory=set)  # volumes that os-brick has connected
    shown: dict[tuple[str, str], str] = field(default_factory=dict)  # devices in running servers, by both
    sizes: dict[str, int] = field(default_factory=dict)  # of volumes, in bytes
    roots: dict[str, str] = field(default_factory=dict)  # by server that runs, the volume that it stands on
    prepared: dict[str, tuple[int, str]] = field(default_factory=dict)  # volumes with a file system: of which image
    engine_up: bool = True
    memory_in_use: int = 1 << 20  # bytes, of every running server
    calls: list[str] = field(default_factory=list)
    fault: Fault | None = None
    fails_at: str = ""  # the kernel refuses the next call of this name
    kill_after: str = ""  # the process dies after its next call of this name
    dead: bool = False
    grave: threading.Event | None = None  # where the threads of a killed process stay; without one they unwind
    streams: list[queue.Queue[Event | None]] = field(default_factory=list)
    counting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.namespaces.mkdir(parents=True, exist_ok=True)
        self.patches.mkdir(parents=True, exist_ok=True)

    @property
    def namespaces(self) -> Path:
        return self.directory / "netns"

    @property
    def patches(self) -> Path:
        return self.directory / "patches"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step of the outer world: what a fault can hit."""
        if self.dead:
            self._die()
        with self.counting:  # nova-compute has many threads
            self.calls.append(name)
            refused = name == self.fails_at
            if refused:
                self.fails_at = ""
            if name == self.kill_after:
                self.fault, self.kill_after = Fault(len(self.calls), Killed, after=True), ""
            hit = self.fault is not None and self.fault.step in (len(self.calls), name)
        if refused:
            raise OSError(f"the kernel refuses {name}")
        if hit and not self.fault.after:
            self._fail()
        try:
            yield
        finally:  # also after an answer that is an error itself
            if hit:
                self._fail()

    def _fail(self) -> None:
        error = self.fault.error()
        if isinstance(error, Killed):
            self.dead = True
            self._die()
        raise error

    def _die(self) -> NoReturn:
        if self.grave is not None:
            self.grave.wait()
        raise Killed

    def revive(self) -> None:
        """A new process starts in the same world."""
        self.dead, self.fault = False, None
        self.calls.clear()

    def leftovers(self) -> dict[str, list[str]]:
        """All that servers have left; empty lists when there is nothing."""
        return {
            "containers": sorted(self.containers),
            "namespaces": sorted(path.name for path in self.namespaces.iterdir()),
            "links": sorted(self.links),
            "switch": sorted(self.switch),
            "patches": sorted(path.name for path in self.patches.iterdir()),
            "spools": sorted(path.name for kind in ("images", "drives") for path in self.directory.glob(f"{kind}/*"))
            + self.copies(),
        } | ({"volumes": sorted(self.connected)} if self.connected or self.held or self.shown else {})

    def copies(self) -> list[str]:
        """The copies of what servers that become images have written."""
        return sorted(name for _, name in self.copied)

    def emit(self, container: Container, kind: EventKind) -> None:
        if container.labels.get(RESCUE_LABEL) == "true":
            return
        event = Event(container.server_uuid, kind, time.time_ns(), container.id)
        for stream in list(self.streams):
            stream.put(event)

    def all_told(self) -> bool:
        """Whether somebody follows the events, and is done with each that there was."""
        return bool(self.streams) and not any(stream.unfinished_tasks for stream in list(self.streams))

    def crash_engine(self, *, servers_survive: bool) -> None:
        """Kill the engine: with live-restore its containers run on, without they stop."""
        self.engine_up = False
        if not servers_survive:
            for name, container in list(self.containers.items()):
                self.containers[name] = replace(container, state=PowerState.SHUTDOWN, pid=0)
        for stream in list(self.streams):
            stream.put(None)
        self.streams.clear()

    def reboot_machine(self) -> None:
        """What a reboot leaves: stopped containers and the switch's database; no namespace, no link."""
        self.crash_engine(servers_survive=False)
        for path in self.namespaces.iterdir():
            path.unlink()
        self.links.clear()
        self.wired.clear()
        self.engine_up = True

    def exit_server(self, server_uuid: str, code: int = 0, seconds: int = 3600, **more: Any) -> None:
        """The server's first process ends by itself, so long after its start."""
        name = NAME_PREFIX + server_uuid
        ended = f"2026-01-01T{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}.123456789Z"
        found = {"exit_code": code, "finished_at": ended} | more
        self.containers[name] = replace(self.containers[name], state=PowerState.SHUTDOWN, pid=0, **found)
        self.emit(self.containers[name], EventKind.STOPPED)

    def usage(self, pid: int) -> cgroups.Usage | None:
        """What the kernel counts of a server's processes."""
        used = cgroups.Usage(1_000_000, self.memory_in_use, None, oom_kills=0, pids=1, read_bytes=0, written_bytes=0)
        return used if pid else None

    def doors(self) -> list[tuple[Any, str, Any]]:
        """Return what to patch: (object, attribute, fake)."""
        from dockstack.compute.host import host  # noqa: PLC0415 - it imports what is patched here

        kernel, switch, storage = FakeKernel(self), FakeSwitch(self), FakeStorage(self)
        disks = FakeVolumes(self)
        return [
            (host, "Engine", lambda _url, _timeout: FakeEngine(self)),
            (privileged, "NAMESPACES", self.namespaces),
            *(
                (privileged, name, getattr(kernel, name))
                for name in ("create_namespace", "delete_namespace", "delete_device", "lower_device", "raise_device")
            ),
            (privileged, "wire", kernel.wire),
            *((copies, name, getattr(storage, name)) for name in ("begin", "complete", "note", "list_all", "remove")),
            *((archives, name, getattr(storage, name)) for name in ("read", "restore")),
            (volumes, "VOLUMES_DIRECTORY", self.directory / "held"),
            (volumes, "DECRYPTED_DIRECTORY", self.directory / "decrypted"),
            *((privileged_volumes, name, getattr(disks, name)) for name in ("hold", "let_go", "list_held")),
            *((privileged_volumes, name, getattr(disks, name)) for name in ("grow", "copy")),
            *((privileged_volumes, name, getattr(disks, name)) for name in ("list_strays", "drop_stray")),
            *((server_devices, name, getattr(disks, name)) for name in ("present", "withdraw", "limit", "is_used")),
            (server_devices, "require_changeable", lambda _pid, _identity: None),
            (hosts_file, "read", lambda _pid, _identity: None),
            *((connector, name, getattr(disks, name)) for name in ("describe_host", "connect", "disconnect")),
            (connector, "grow", lambda _volume: None),
            (boot_volumes, "prepare", disks.prepare),
            (shims, "end", lambda _container_id: 0),
            (cgroups, "usage", self.usage),
            (veth, "wired", kernel.wired),
            (usage, "read_memory", lambda: self.memory),
            (veth, "names", kernel.names),
            *(
                (ovs, name, getattr(switch, name))
                for name in ("plug", "unplug", "unplug_device", "list_plugged", "wait_installed")
            ),
        ]


class FakeKernel:
    def __init__(self, world: World) -> None:
        self.world = world

    def create_namespace(self, name: str) -> None:
        with self.world.step("create_namespace"):
            (self.world.namespaces / name).touch()

    def delete_namespace(self, name: str) -> None:
        with self.world.step("delete_namespace"):
            (self.world.namespaces / name).unlink(missing_ok=True)
            for device in [device for device, namespace in list(self.world.links.items()) if namespace == name]:
                self.world.links.pop(device, None)  # its other end goes with the namespace

    def wire(self, namespace: str, device: str, nic: dict[str, Any]) -> None:
        with self.world.step("wire"):
            assert (self.world.namespaces / namespace).exists(), "wired into a namespace that is not there"
            self.world.wired[device] = nic
            self.world.links[device] = namespace
            self.world.silent.discard(device)

    def delete_device(self, device: str) -> None:
        with self.world.step("delete_device"):
            self.world.links.pop(device, None)

    def lower_device(self, device: str) -> None:
        with self.world.step("lower_device"):
            self.world.silent.add(device)

    def raise_device(self, device: str) -> None:
        with self.world.step("raise_device"):
            self.world.silent.discard(device)

    def names(self, server_uuid: str) -> dict[str, str]:
        return {
            device: self.world.wired[device]["interface"]
            for device, owner in self.wired().items()
            if owner == server_uuid
        }

    def wired(self) -> dict[str, str]:
        return {device: namespace.removeprefix(NAME_PREFIX) for device, namespace in list(self.world.links.items())}


class FakeStorage:
    """The engine's storage, and the copies beside it, as root sees them."""

    def __init__(self, world: World) -> None:
        self.world = world

    def begin(self, _root: str, owner: str, name: str, layer: str, _entries: int) -> None:
        with self.world.step("copy.begin"):
            self._require(layer)
            self.world.copied[owner, name] = None

    def complete(self, _root: str, owner: str, name: str, layer: str, _entries: int) -> None:
        with self.world.step("copy.complete"):
            container = self._require(layer)
            assert container.state is not PowerState.RUNNING, "it does not stand still"
            self.world.copied[owner, name] = self.world.root_file_system

    def note(self, _root: str, owner: str, name: str, container_id: str) -> None:
        with self.world.step("copy.note"):
            self.world.standing[owner, name] = container_id

    def list_all(self, _root: str, owner: str) -> list[tuple[str, str]]:
        with self.world.step("copy.list_all"):
            found = [key for key in self.world.copied if key[0] == owner]
            return [(name, self.world.standing.get((owner, name), "")) for _, name in found]

    def remove(self, _root: str, owner: str, name: str) -> None:
        with self.world.step("copy.remove"):
            self.world.copied.pop((owner, name), None)
            self.world.standing.pop((owner, name), None)

    def read(self, _root: str, owner: str, name: str, fifo: str, _entries: int) -> dict[str, Any]:
        with self.world.step("copy.read"), Path(fifo).open("wb", buffering=0) as file:
            left = memoryview(self.world.copied[owner, name])
            while left:
                left = left[file.write(left) :]
        return {"sparse": 0, "left_out": {}}

    def restore(self, layer: str) -> int:
        with self.world.step("restore"):
            self._require(layer)
            return 1

    def _require(self, layer: str) -> Container:
        found = (each for each in list(self.world.containers.values()) if each.layers and each.layers.upper == layer)
        container = next(found, None)
        if container is None:
            raise FileNotFoundError(f"no layer {layer}")
        return container


class FakeVolumes:
    """Volumes as devices of the host and in servers that run; each is a gigabyte unless the world says otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world

    def describe_host(self, host_name: str, address: str) -> dict[str, Any]:
        return {"host": host_name, "ip": address, "initiator": None}

    def connect(self, volume: Any) -> str:
        with self.world.step("volume.connect"):
            self.world.connected.add(volume.id)
            return f"/volumes/{volume.id}"

    def disconnect(self, volume: Any) -> None:
        with self.world.step("volume.disconnect"):
            self.world.connected.discard(volume.id)

    def hold(self, server: str, volume: str, path: str, _host: str, seen: dict[str, Any]) -> dict[str, int]:
        with self.world.step("volume.hold"):
            if path != f"/volumes/{volume}":
                assert Path(path).is_file(), "a disk of the host's own"
                self.world.connected.add(volume)
            (self.world.directory / "held").mkdir(exist_ok=True)
            self.world.held[server, volume] = seen
            minor = sorted(self.world.connected).index(volume)
            return {"major": 7, "minor": minor, "size": self.world.sizes.get(volume, 1 << 30)}

    def let_go(self, server: str, volume: str, _host: str) -> bool:
        with self.world.step("volume.let_go"):
            assert (server, volume) not in self.world.shown, "a running server has it"
            self.world.held.pop((server, volume), None)
            last = not any(held == volume for _, held in self.world.held)
            if last:
                self.world.connected.discard(volume)
            return last

    def list_held(self) -> list[list[str]]:
        with self.world.step("volume.list_held"):
            return [[*key, seen["device"]] for key, seen in self.world.held.items()]

    def list_strays(self, _host: str) -> list[str]:
        with self.world.step("volume.list_strays"):
            return sorted(self.world.connected - {volume for _, volume in self.world.held})

    def drop_stray(self, volume: str, _host: str) -> None:
        with self.world.step("volume.drop_stray"):
            self.world.connected.discard(volume)

    def grow(self, _server: str, volume: str, _host: str) -> int:
        with self.world.step("volume.grow"):
            return self.world.sizes.get(volume, 1 << 30)

    def prepare(self, server: str, volume: str, size: int, checksum: str) -> bool:
        with self.world.step("volume.prepare"):
            assert self.world.held[server, volume]["device"] == "vda"
            self.world.prepared.setdefault(volume, (size, checksum))
            return True

    def copy(self, server: str, volume: str, other: str) -> None:
        with self.world.step("volume.copy"):
            assert {(server, volume), (server, other)} <= set(self.world.held)
            assert (server, volume) not in self.world.shown, "it is written to while it is copied"

    def present(self, _pid: int, _identity: str, server: str, volume: str, views: list[list[str]]) -> bool:
        with self.world.step("volume.present"):
            assert all(Path(source).exists() for source, _ in views)
            self.world.shown[server, volume] = self.world.held[server, volume]["device"]
            return True

    def withdraw(self, _pid: int, _identity: str, server: str, volume: str) -> bool:
        with self.world.step("volume.withdraw"):
            return self.world.shown.pop((server, volume), None) is not None

    def limit(self, _pid: int, _identity: str, server: str, volume: str, rates: list[int]) -> None:
        with self.world.step("volume.limit"):
            self.world.held[server, volume] = self.world.held[server, volume] | {"rates": rates}

    def is_used(self, *_arguments: object) -> bool:
        with self.world.step("volume.is_used"):
            return False


class FakeSwitch:
    def __init__(self, world: World) -> None:
        self.world = world

    def plug(self, server: Any, port: Any) -> None:
        with self.world.step("plug"):
            assert port.device in self.world.links, "plugged a device that is not there"
            self.world.switch[port.device] = server.uuid

    def unplug(self, _server: Any, port: Any) -> None:
        with self.world.step("unplug"):
            self.world.switch.pop(port.device, None)

    def wait_installed(self, port_ids: Any) -> set[str]:
        with self.world.step("wait_installed"):
            return set(port_ids) & self.world.installed

    def unplug_device(self, device: str) -> None:
        with self.world.step("unplug_device"):
            self.world.switch.pop(device, None)

    def list_plugged(self) -> dict[str, str]:
        with self.world.step("list_plugged"):
            return dict(self.world.switch)


class FakeStream:
    def __init__(self, world: World) -> None:
        self.world = world
        self.events: queue.Queue[Event | None] = queue.Queue()
        world.streams.append(self.events)

    def __iter__(self) -> Iterator[Event]:
        while (event := self.events.get()) is not None:
            yield event
            self.events.task_done()  # who asks for the next one has dealt with it

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # the engine went first
            self.world.streams.remove(self.events)
        self.events.put(None)


class FakeEngine:
    """Answers as the engine room's Engine does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lock = threading.Lock()

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self.world.step(name):
            if not self.world.engine_up:
                raise EngineUnavailable("The container engine did not answer.", "Check that the engine runs.")
            yield

    def _find_root(self, container: Container, root: dict[str, Any]) -> str:
        volume = sorted(self.world.connected)[root["minor"]]
        assert self.world.held[container.server_uuid, volume]["device"] == "vda"
        return volume

    def _show_devices(self, container: Container, devices: list[dict[str, Any]]) -> None:
        """What the runtime does at a start, and what ends with a server's last process."""
        server = container.server_uuid
        self.world.roots.pop(server, None)
        for key in [key for key in self.world.shown if key[0] == server]:
            del self.world.shown[key]
        for device in devices:
            volume = next(
                held
                for (own, held), seen in self.world.held.items()
                if (own, seen["device"]) == (server, device["name"])
            )
            self.world.shown[server, volume] = device["name"]

    def _set(self, name: str, state: PowerState, kind: EventKind, pid: int) -> None:
        container = replace(self._get(name), state=state, pid=pid, started_at="2026-01-01T00:00:00.123456789Z")
        self.world.containers[container.name] = container
        self.world.emit(container, kind)

    def _get(self, name: str) -> Container:
        """By name or id, as the engine does."""
        found = self.world.containers.get(name) or next(
            (container for container in list(self.world.containers.values()) if container.id == name), None
        )
        if found is None:
            raise NotFound(f"No such container: {name}")
        return found

    def ping(self) -> None:
        with self._call("ping"):
            pass

    def info(self) -> EngineInfo:
        with self._call("info"):
            return EngineInfo(
                name="fake",
                version="20.10.24+dfsg1",
                api_version="1.41",
                cpus=2,
                memory_bytes=8 << 30,
                root_directory="/",
                storage_driver="overlay2",
                kernel="6.1",
                architecture=MACHINE,
                cgroup_version=2,
                runtimes=("dockstack", "runc"),
                live_restore=True,
                security_options=(),
            )

    def containers(self, labels: dict[str, str] | None = None) -> tuple[Container, ...]:
        with self._call("containers"):
            wanted = (labels or {}).items()
            return tuple(c for c in list(self.world.containers.values()) if c.ours and wanted <= c.labels.items())

    def container(self, name: str) -> Container:
        with self._call("container"):
            return self._get(name)

    def create(self, name: str, spec: Any) -> str:
        with self._call("create"):
            if name in self.world.containers:
                raise Conflict(f"The name {name} is taken")
            if spec.image not in self.world.images:
                raise NotFound(f"No such image: {spec.image}")
            identity = hashlib.sha256(f"{name}{time.time_ns()}".encode()).hexdigest()
            self.world.containers[name] = Container(
                id=identity,
                name=name,
                state=PowerState.SHUTDOWN,
                labels=dict(spec.labels),
                image_id=spec.image,
                host_config=dict(spec.limits),
                layers=Layers(lower=("/overlay2/b/diff",), upper=f"/overlay2/{identity}/diff", work=""),
            )
            self.world.specs[name] = spec
            assert spec.labels[UUID_LABEL] in name
            return identity

    def start(self, name: str, timeout: int | None = None) -> None:
        try:
            editor.wait_gate(str(self.world.patches), self._get(name).id)
        except editor.Refusal as error:
            raise EngineError(f"starting container {name}: {error}") from error
        with self._call("start"):
            container = self._get(name)
            patch = json.loads((self.world.patches / f"{container.id}.json").read_text())  # the runtime fails closed
            assert Path(patch["netns"]).exists(), "started without its network namespace"
            if container.state is PowerState.SHUTDOWN:
                self._show_devices(container, patch["devices"])
                if patch["root_volume"]:
                    self.world.roots[container.server_uuid] = self._find_root(container, patch["root_volume"])
                self._set(name, PowerState.RUNNING, EventKind.STARTED, pid=1)

    def stop(self, name: str, timeout: int) -> None:
        with self._call(f"stop {timeout}"):
            if self._get(name).state is not PowerState.SHUTDOWN:
                self._show_devices(self._get(name), [])
                self._set(name, PowerState.SHUTDOWN, EventKind.STOPPED, pid=0)

    def pause(self, name: str) -> None:
        with self._call("pause"):
            if self._get(name).state is not PowerState.RUNNING:
                raise Conflict(f"Container {name} does not run")
            self._set(name, PowerState.PAUSED, EventKind.PAUSED, pid=1)

    def unpause(self, name: str) -> None:
        with self._call("unpause"):
            if self._get(name).state is not PowerState.PAUSED:
                raise Conflict(f"Container {name} is not paused")
            self._set(name, PowerState.RUNNING, EventKind.RESUMED, pid=1)

    def rename(self, name: str, new_name: str) -> None:
        with self._call("rename"):
            container = self._get(name)
            if new_name in self.world.containers:
                raise Conflict(f"The name {new_name} is taken")
            del self.world.containers[container.name]
            self.world.containers[new_name] = replace(container, name=new_name)
            self.world.specs[new_name] = self.world.specs.get(container.name)

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        with self._call(f"kill {signal}"):
            self._get(name)

    def update(self, name: str, changes: dict[str, Any]) -> None:
        with self._call("update"):
            container = self._get(name)
            if container.state is not PowerState.SHUTDOWN and changes["Memory"] < self.world.memory_in_use:
                raise EngineError("The kernel refused: device or resource busy")
            self.world.containers[container.name] = replace(container, host_config=container.host_config | changes)

    def remove(self, name: str) -> None:
        with self._call("remove"):
            with contextlib.suppress(NotFound):
                name = self._get(name).name
            container = self.world.containers.pop(name, None)
            if container is not None:
                self._show_devices(container, [])
            if container is not None and container.state is not PowerState.SHUTDOWN:
                self.world.emit(container, EventKind.STOPPED)

    def logs(self, name: str, tail_bytes: int) -> bytes:
        with self._call("logs"):
            self._get(name)
            return self.world.log[-tail_bytes:]

    def terminals(self) -> FakeTerminals:
        return FakeTerminals(self.world)

    def has_path(self, name: str, path: str) -> bool:
        with self._call("has_path"):
            self._get(name)
            return path in self.world.inside

    def resolve(self, name: str, path: str) -> str:
        with self._call("resolve"):
            self._get(name)
            return self.world.leads.get(path, path)

    def read_file(self, name: str, path: str, limit: int) -> GuestFile | None:
        with self._call("read_file"):
            self._get(name)
            data = {**self.world.inside, **self.world.placed}.get(path)
            return GuestFile(data, 0o640, 0, 42) if data is not None and len(data) <= limit else None

    def put_archive(self, name: str, path: str, archive: bytes, *, keep_kinds: bool = False) -> None:
        with self._call("put_archive"):
            self._get(name)
            with tarfile.open(fileobj=io.BytesIO(archive)) as found:
                for member in found:
                    data = found.extractfile(member)
                    self.world.placed[f"{path.rstrip('/')}/{member.name}"] = data.read() if data else b""

    def execute(self, name: str, command: Iterable[str], *, stdin: bytes = b"", **_more: object) -> Execution:
        with self._call("execute"):
            if self._get(name).state is not PowerState.RUNNING:
                raise Conflict(f"Container {name} is not running")
            self.world.executed.append((list(command), stdin))
            return Execution(self.world.exit_code, b"")

    def image(self, reference: str) -> EngineImage | None:
        with self._call("image"):
            found = (image for image in list(self.world.images.values()) if reference in (image.id, *image.tags))
            return next(found, None)

    def load_image(self, chunks: Iterable[bytes], deadline: float | None = None) -> tuple[str, ...]:
        with self._call("load_image"), self.lock:
            archive = tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))  # noqa: SIM115 - in memory
            manifest = json.load(archive.extractfile("manifest.json"))
            config = archive.extractfile(manifest[0]["Config"]).read()
            identity = "sha256:" + hashlib.sha256(config).hexdigest()
            document = json.loads(config)
            self.world.images[identity] = EngineImage(
                id=identity, config=document["config"], size=1000, architecture="amd64", os="linux"
            )
            return (identity,)

    def tag_image(self, image_id: str, repository: str, tag: str) -> None:
        with self._call("tag_image"):
            image = self.world.images[image_id]
            tags = dict.fromkeys((*image.tags, f"{repository}:{tag}"))
            tagged_at = datetime.now(UTC).isoformat()
            self.world.images[image_id] = replace(image, tags=tuple(tags), tagged_at=tagged_at)

    def images(self, *, reference: str) -> tuple[EngineImage, ...]:
        with self._call("images"):
            found = list(self.world.images.values())
            return tuple(i for i in found if any(tag.rpartition(":")[0] == reference for tag in i.tags))

    def remove_image(self, reference: str) -> None:
        with self._call("remove_image"):
            for image in list(self.world.images.values()):
                left = tuple(tag for tag in image.tags if tag != reference)
                if left == image.tags:
                    continue
                if not left and image.id in {container.image_id for container in list(self.world.containers.values())}:
                    raise Conflict(f"A container uses {reference}")
                self.world.images[image.id] = replace(image, tags=left)
                if not left:
                    del self.world.images[image.id]

    def used_images(self) -> frozenset[str]:
        with self._call("used_images"):
            return frozenset(container.image_id for container in list(self.world.containers.values()))

    def process(self, name: str) -> dict[str, Any]:
        with self._call("process"):
            container = self._get(name)
            return self.world.specs[container.name].body() | {"Volumes": {}}

    def events(self, _since_ns: int | None = None) -> FakeStream:
        with self._call("events"):
            return FakeStream(self.world)


class FakeTerminals:
    """A log that has been said, and a program that repeats in capitals what it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.far: list[socket.socket] = []

    def _stream(self, said: bytes) -> tuple[Stream, socket.socket]:
        near, far = socket.socketpair()
        far.sendall(said)
        self.far.append(far)
        return Stream(near), far

    def programs(self, _name: str) -> tuple[int, ...]:
        return ()

    def follow_log(self, _name: str, _lines: int, since: float) -> Stream:
        return self._stream(b"" if since else self.world.log)[0]

    def run(self, _name: str, command: Iterable[str], user: str, _environment: Any) -> Program | None:
        self.world.calls.append(f"run {' '.join(command)} as {user}")
        stream, far = self._stream(b"login: ")

        def answer() -> None:
            while data := far.recv(100):
                far.sendall(data.upper())

        threading.Thread(target=answer, daemon=True).start()
        return Program("program", 1, stream)

    def resize_program(self, _program: Program, size: Any) -> None:
        self.world.calls.append(f"resize {size.rows} {size.columns}")

    def close(self) -> None:
        for far in self.far:
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)
            far.close()


def image_archive(**process: object) -> bytes:
    """An image as users upload it."""
    layers = [image_archives.sample_layer()]
    return image_archives.docker_save(layers, raw_config=image_archives.config(layers, **process))

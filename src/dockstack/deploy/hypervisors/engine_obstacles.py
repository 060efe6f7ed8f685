# SPDX-License-Identifier: Apache-2.0
"""Settings of the engine that is here with which servers could not run, found before anything is changed.

``gather`` looks at the machine; ``obstacles`` decides, and is pure. Each obstacle names the key. What is not named here
works: another log driver, as each server names its own; ``iptables: false`` and any bridge, as servers have networks of
their own; live-restore by flag, as it then need not stand in daemon.json, where the engine would refuse it.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.hypervisors import daemon_json
from dockstack.deploy.hypervisors.engine import DAEMON_JSON, PIDFILE, SERVICE, engine_of, is_own
from dockstack.deploy.hypervisors.engine_file import BEFORE, wanted_keys
from dockstack.deploy.hypervisors.storage_obstacles import Obstacle
from dockstack.deploy.node import processes
from dockstack.deploy.supervision.backends import BOOTED_WITH_SYSTEMD
from dockstack.errors import DockstackError
from dockstack.names import SNAPSHOTTER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dockstack.deploy.node.manifest import Manifest
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.attributes import Attributes

OWN, SHARED = "an engine of its own", "the machine's engine"
INSTEAD = "Or leave it as it is, and have one of our own beside it: --set docker.own=true"
PATIENCE = 5.0  # seconds that an engine may take for an answer
OUR_FLAGS = {"hosts": "--host", "group": "--group", "pidfile": "--pidfile"}  # by key: those of the engine we start


@dataclass(frozen=True)
class EngineFacts:
    """What the engine is like that runs here, or would be started.

    Attributes:
        info: what the one on our socket says of itself; empty if none answers.
        flags: the options that it was started with, by name.
        file: the text of daemon.json.
        swarm: its data root holds a swarm's state.
        by_flags: one would be started by a command of ours, not by the distribution's unit.
        own: whether the cloud or node that is here has an engine of its own; None if there is neither.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None
    swarm: bool = False
    by_flags: bool = False
    own: bool | None = None


def obstacles(attributes: Attributes, facts: EngineFacts) -> Iterator[Obstacle]:
    """Yield every setting that prevents servers, each with its cure."""
    own = engine_of(attributes).own
    if facts.own not in {None, own}:
        yield Obstacle(
            f"What is here has {OWN if facts.own else SHARED}; docker.own asks for {OWN if own else SHARED}.",
            "Which engine is chosen with the first `dockstack up`, or `node add`. To change it, of a node: "
            "`dockstack node drain` and `remove`, then `add`; of a cloud: make images of the servers that you need and "
            "save them elsewhere, then `dockstack clean`, then `dockstack up` with docker.own as you want it.",
        )
        return
    if own:
        yield from _own(attributes)
        return
    wanted = wanted_keys(attributes)
    try:
        merged = json.loads(daemon_json.merge(facts.file, wanted, DAEMON_JSON))
    except DockstackError as error:
        yield Obstacle(error.brief, error.resolution)
        return
    for obstacle in (*_modes(facts, merged), *_flags(facts.flags, daemon_json.keys(wanted)), *_twice(facts, merged)):
        yield obstacle if facts.own is False else Obstacle(obstacle.brief, f"{obstacle.cure} {INSTEAD}")


def _twice(facts: EngineFacts, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    """Yield keys that the engine which we start has by flag."""
    for key, flag in OUR_FLAGS.items():
        if facts.by_flags and key in document:
            yield Obstacle(
                f'"{key}" stands in {DAEMON_JSON}, and the engine is started with {flag}; it refuses to have both.',
                "Take the key out of that file; docker.socket and docker.group say what it shall be.",
            )


def _own(attributes: Attributes) -> Iterator[Obstacle]:
    """Yield what prevents an engine of our own; settings of the machine's do not."""
    if attributes.number("hosts") > 1:
        yield Obstacle(
            "With several hosts on one machine, docker.own cannot be had.", "Use one host, or the machine's engine."
        )


def _modes(facts: EngineFacts, document: Mapping[str, Any]) -> Iterator[Obstacle]:
    """Yield modes of the engine in which it cannot run servers."""
    security = {part for option in facts.info.get("SecurityOptions") or () for part in str(option).split(",")}
    features = document.get("features")
    if facts.swarm or (facts.info.get("Swarm") or {}).get("LocalNodeState", "inactive") not in {"", "inactive"}:
        yield Obstacle(
            "The engine is in a swarm (swarm), which takes no live-restore; servers would stop whenever it restarts.",
            "Leave the swarm (docker swarm leave), or use a machine whose engine is in none.",
        )
    if "name=userns" in security or document.get("userns-remap") or facts.flags.get("userns-remap"):
        yield Obstacle(
            "The engine maps users (userns-remap), so servers could not join the networks that are made for them.",
            "Take userns-remap away and restart the engine; its containers and images of before are in another place.",
        )
    if "name=rootless" in security:
        yield Obstacle(
            "The engine is not root's (rootless), so servers could not join the networks that are made for them.",
            "Set docker.socket to that of an engine of root's.",
        )
    wanted = isinstance(features, dict) and features.get("containerd-snapshotter")
    if wanted or SNAPSHOTTER in (facts.info.get("DriverStatus") or ()):
        yield Obstacle(
            "The engine keeps images in containerd (features.containerd-snapshotter), where the layers of a server, "
            "which snapshots, rescue and moves need, are not found.",
            f'Set "containerd-snapshotter" to false under "features" in {DAEMON_JSON} and restart the engine.',
        )


def _flags(flags: Mapping[str, str], keys: Sequence[str]) -> Iterator[Obstacle]:
    """Yield options of the engine's command that contradict what we have to write into its daemon.json."""
    file = flags.get("config-file", DAEMON_JSON)
    if file != DAEMON_JSON:
        yield Obstacle(
            f"The engine reads {file} (--config-file), not {DAEMON_JSON}, where its runtime for servers is named.",
            "Let it read that file, and restart it.",
        )
    if flags.get("live-restore", "true") != "true":
        yield Obstacle(
            "The engine is started with --live-restore=false; servers would stop with each restart of it.",
            "Take the option away, and restart the engine.",
        )
    for key in keys:  # dockerd takes each from one place only
        if key in flags:
            yield Obstacle(
                f'The engine is started with --{key}, so it would refuse the "{key}" that {DAEMON_JSON} has to have.',
                f"Leave docker.{key.replace('-', '_').removesuffix('_driver')} away to use the engine as it is.",
            )
    if "add-runtime" in flags:  # moby's daemon/reload_unix.go: the file's runtimes replace those of flags
        yield Obstacle(
            f"The engine is started with --add-runtime, and would forget that runtime when it reads {DAEMON_JSON}.",
            'Name it under "runtimes" in that file instead, and restart the engine.',
        )


# -- looking ----------------------------------------------------------------------------------------------------------


def gather(attributes: Attributes, manifest: Manifest, services: Iterable[Service]) -> EngineFacts:
    """Look at this machine; nothing is changed."""
    ours = [service for service in services if service.name == SERVICE]
    used = is_own(ours[0]) if ours else (False if manifest.done(BEFORE) else None)
    if engine_of(attributes).own:
        return EngineFacts(own=used)
    backend = attributes.text("services.backend")
    systemd = Path(BOOTED_WITH_SYSTEMD).is_dir() if backend == "auto" else backend == "systemd"
    info = ask(attributes.text("docker.socket"))
    file = Path(DAEMON_JSON)
    return EngineFacts(
        info=info,
        flags=parse_flags(_arguments(Path(PIDFILE))) if info else {},
        file=file.read_text() if file.exists() else None,
        swarm=Path(attributes.text("docker.data_root"), "swarm", "docker-state.json").exists(),
        by_flags=not systemd,
        own=used,
    )


def ask(path: str) -> dict[str, Any]:
    """Return what an engine says of itself; empty if none answers."""
    connection = _UnixConnection("localhost", timeout=PATIENCE)
    connection.path = path
    try:
        connection.request("GET", "/info")
        said = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return said if isinstance(said, dict) else {}


def parse_flags(arguments: Sequence[str]) -> dict[str, str]:
    """Return the long options of a command by name; one without a value is true."""
    found: dict[str, str] = {}
    for number, word in enumerate(arguments):
        if word.startswith("--"):
            name, separator, value = word[2:].partition("=")
            following = arguments[number + 1] if number + 1 < len(arguments) else "-"
            found[name] = value if separator else ("true" if following.startswith("-") else following)
    return found


def _arguments(pidfile: Path) -> list[str]:
    """Return the engine's command; empty if it has its pid file elsewhere."""
    try:
        pid = int(pidfile.read_text())
    except (OSError, ValueError):
        return []
    process = processes.look(pid)
    return processes.arguments(pid) if process is not None and process.name == "dockerd" else []


class _UnixConnection(http.client.HTTPConnection):
    path = ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socketserver
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from dockstack.deploy.hypervisors import engine_obstacles
from dockstack.deploy.hypervisors.engine_obstacles import EngineFacts, ask, gather, obstacles, parse_flags
from dockstack.deploy.node.manifest import Manifest
from dockstack.deploy.run.preflight import MachineFacts, problems
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit

# What Docker 26.1 says of itself, as far as it matters.
INFO = {
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Native Overlay Diff", "true"]],
    "LoggingDriver": "json-file",
    "Swarm": {"NodeID": "", "LocalNodeState": "inactive"},
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
    "LiveRestoreEnabled": False,
}
FLAGS = {"host": "fd://", "containerd": "/run/containerd/containerd.sock"}
USUAL = EngineFacts(info=INFO, flags=FLAGS)


def found(node, *assignments, **changes):
    return list(obstacles(node(*assignments).attributes, replace(USUAL, **changes)))


def file(**keys):
    return json.dumps(keys)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"info": {}, "flags": {}},  # no engine yet
        {"info": {**INFO, "LoggingDriver": "journald"}, "file": file(**{"log-driver": "journald"})},
        {"file": file(iptables=False, bridge="none", dns=["192.0.2.1"])},
        {"file": file(runtimes={"nvidia": {"path": "nvidia"}}, features={"buildkit": True})},
        {"info": {**INFO, "LiveRestoreEnabled": True}, "flags": {**FLAGS, "live-restore": "true"}},
        {"flags": {**FLAGS, "data-root": "/srv/docker", "config-file": "/etc/docker/daemon.json"}},
        {"info": {**INFO, "Swarm": {}}},
        {"file": file(hosts=["unix:///run/docker.sock"])},  # the distribution's unit is its owner's
    ],
)
def test_what_works_is_not_refused(node, changes):
    assert found(node, **changes) == []


SWARM = {**INFO, "Swarm": {"LocalNodeState": "active"}}
# What only the file says holds from the engine's next restart on, which servers would not survive.
CONTAINERD = {**INFO, "Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("(swarm)", {"info": SWARM}),
        ("(swarm)", {"info": {**INFO, "Swarm": {"LocalNodeState": "locked"}}}),
        ("(swarm)", {"info": {}, "swarm": True}),
        ("(userns-remap)", {"info": {**INFO, "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}}),
        ("(userns-remap)", {"file": file(**{"userns-remap": "default"})}),
        ("(userns-remap)", {"flags": {"userns-remap": "default"}}),
        ("(rootless)", {"info": {**INFO, "SecurityOptions": ["name=rootless"]}}),
        ("(features.containerd-snapshotter)", {"info": CONTAINERD}),
        ("(features.containerd-snapshotter)", {"file": file(features={"containerd-snapshotter": True})}),
        ("--live-restore=false", {"flags": {"live-restore": "false"}}),
        ("--add-runtime", {"flags": {"add-runtime": "kata=/usr/bin/kata"}}),
        ("--config-file", {"flags": {"config-file": "/etc/engine.json"}}),
        ("is no valid JSON", {"file": "{"}),
    ],
)
def test_each_setting_is_refused_by_its_name(node, key, changes):
    (obstacle,) = found(node, **changes)
    assert key in obstacle.brief
    assert ("--set docker.own=true" in obstacle.cure) == (changes.get("file") != "{")
    (obstacle,) = found(node, own=False, **changes)  # there is a cloud in it, which has to stay
    assert "docker.own" not in obstacle.cure


def test_where_the_data_is_contradicts_only_an_attribute(node):
    elsewhere = {**FLAGS, "data-root": "/srv/docker", "storage-driver": "overlay2"}
    assert found(node, flags=elsewhere) == []
    (obstacle,) = found(node, "docker.data_root=/srv/docker", flags=elsewhere)
    assert '"data-root"' in obstacle.brief
    assert "docker.data_root" in obstacle.cure
    (obstacle,) = found(node, "docker.storage=btrfs", flags=elsewhere)
    assert '"storage-driver"' in obstacle.brief
    assert "docker.storage " in obstacle.cure


@pytest.mark.parametrize("key", ["hosts", "group", "pidfile"])
def test_the_engine_that_we_start_has_these_by_flag(node, key):
    assert found(node, file=file(**{key: "x"})) == []
    (obstacle,) = found(node, file=file(**{key: "x"}), by_flags=True)
    assert f'"{key}"' in obstacle.brief


def test_preflight_says_all_of_them_before_anything_is_changed(node):
    facts = MachineFacts(engine=replace(USUAL, info=SWARM, flags={"live-restore": "false"}))
    assert [problem.warning for problem in problems(node(), facts)] == [False, False]
    assert problems(node("hypervisor=fake"), facts) == []


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["/usr/sbin/dockerd", "-H", "fd://", "--live-restore"], {"live-restore": "true"}),
        (["dockerd", "--live-restore=false", "--data-root", "/srv"], {"live-restore": "false", "data-root": "/srv"}),
        (
            ["dockerd", "--live-restore", "-D", "--group=x"],
            {"live-restore": "true", "group": "x"},
        ),
        ([], {}),
    ],
)
def test_options_are_read_from_the_command(arguments, flags):
    assert parse_flags(arguments) == flags


@pytest.fixture
def socket_of(tmp_path):
    """An engine's socket that answers every question with the same body."""
    servers = []

    def serve(body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/info"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        path = str(tmp_path / f"{len(servers)}.sock")
        servers.append(socketserver.ThreadingUnixStreamServer(path, Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return path

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_engine_is_asked_on_its_socket(socket_of, tmp_path):
    assert ask(socket_of(json.dumps(INFO).encode())) == INFO
    assert ask(socket_of(b"not json")) == ask(socket_of(b"[1]")) == ask(str(tmp_path / "none")) == {}


def test_gathering_puts_what_it_sees_together(node, socket_of, tmp_path, monkeypatch):
    (tmp_path / "swarm").mkdir()
    (tmp_path / "swarm/docker-state.json").write_text("{}")
    (tmp_path / "daemon.json").write_text("{}")
    monkeypatch.setattr(engine_obstacles, "DAEMON_JSON", str(tmp_path / "daemon.json"))
    monkeypatch.setattr(engine_obstacles, "_arguments", lambda _: ["dockerd", "--live-restore"])
    path = socket_of(json.dumps(INFO).encode())
    chosen = node(f"docker.socket={path}", f"docker.data_root={tmp_path}", "services.backend=supervisor")
    seen = EngineFacts(INFO, {"live-restore": "true"}, "{}", swarm=True, by_flags=True)
    manifest = Manifest(tmp_path / "state")
    assert gather(chosen.attributes, manifest, ()) == seen
    manifest.set_done("daemon-json-before", "{}")
    assert gather(chosen.attributes, manifest, ()) == replace(seen, own=False)  # one that was there is used
    own = Service(name="docker", command=("dockerd", "--config-file=/etc/dockstack/docker.json"))
    assert gather(chosen.attributes, manifest, (own,)) == replace(seen, own=True)
    assert gather(node("docker.own=true").attributes, Manifest(tmp_path / "new"), ()) == EngineFacts()


@pytest.mark.parametrize("facts", [EngineFacts(), replace(USUAL, info=SWARM, file="{", by_flags=True)])
def test_settings_of_the_machine_s_engine_do_not_matter_to_one_of_our_own(node, facts):
    assert list(obstacles(node("docker.own=true").attributes, facts)) == []


def test_which_engine_is_chosen_once(node):
    for wanted, used in (("true", False), ("false", True)):
        (obstacle,) = found(node, f"docker.own={wanted}", own=used)
        assert "docker.own asks for" in obstacle.brief
        assert found(node, f"docker.own={wanted}", own=not used) == []
    assert found(node, "docker.own=true", "hosts=2")[0].brief.endswith("docker.own cannot be had.")


def test_the_command_is_the_engine_s_and_nobody_else_s(tmp_path):
    pidfile = tmp_path / "docker.pid"
    assert engine_obstacles._arguments(pidfile) == []
    for text in ("1", "", "4194304999"):
        pidfile.write_text(text)
        assert engine_obstacles._arguments(pidfile) == []

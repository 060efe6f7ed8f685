# SPDX-License-Identifier: Apache-2.0
"""The hypervisor for somebody else's Nova: what is theirs is left to them, what is ours is taken away again."""

from __future__ import annotations

import json

import pytest

from dockstack.deploy.hypervisors import lxcfs, nova_compute
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.node import processes
from dockstack.deploy.recipes import environments, mounts
from dockstack.deploy.run.hypervisor_alone import HypervisorAlone, require_no_cloud
from dockstack.deploy.supervision.records import Records
from dockstack.deploy.supervision.services import Service
from dockstack.errors import DockstackError
from dockstack.names import MOUNT_SOCKET

pytestmark = pytest.mark.unit

PYTHON = "/opt/stack/data/venv/bin/python3"
SERVED = nova_compute.of_another("stack", PYTHON)
A, B = "1f0c4a2e-0000-4000-8000-00000000000a", "1f0c4a2e-0000-4000-8000-00000000000b"
GOOD_INFO = json.dumps(
    {"LiveRestoreEnabled": True, "Runtimes": {"dockstack": {"path": "/opt/dockstack/runtime/dockstack-runtime"}}}
)
BARE = {
    "ls /usr/bin/dockerd": {"success": False},
    "getent group": {"success": False},
    "cat /usr/sbin/policy-rc.d": {"success": False},
    "dpkg-query": {"success": False},
}


@pytest.mark.parametrize(("backend", "brought"), [("systemd", []), ("supervisor", ["command line"])])
def test_our_supervisor_is_brought_where_there_is_no_other(machine, monkeypatch, backend, brought):
    one, seen = machine(BARE), []
    monkeypatch.setattr(one.backend, "name", backend)
    monkeypatch.setattr(environments, "command_line", lambda _: seen.append("command line"))
    HypervisorAlone(one).install()
    assert seen == brought


def test_install_brings_engine_views_and_fonts_and_no_account(machine, monkeypatch):
    one = machine(BARE)
    monkeypatch.setattr(one.backend, "name", "systemd")
    HypervisorAlone(one).install()
    made = {(entry.kind, entry.name) for entry in one.manifest.entries()}
    assert {("package", name) for name in ("docker.io", "lxcfs", "fonts-dejavu-core")} <= made
    assert ("group", "docker") in made
    assert not {kind for kind, _ in made} & {"user", "membership"}


def test_configure_installs_no_package_of_python_and_no_door(machine):
    one = machine({"cat /etc/docker/daemon.json": {"success": False}})
    HypervisorAlone(one).configure(SERVED)
    assert not any("pip install" in line or " driver " in line for line in one.commands)
    (wrapper,) = [line for line in one.commands if "containers.runtime" in line]
    assert wrapper.startswith(f"{PYTHON} -P -c ")
    assert "--source /var/lib/dockstack/compute" in wrapper
    owned = [line for line in one.commands if "chown" in line and "stack" in line]
    assert [path for path in ("/patches", "/compute") if any(path in line for line in owned)] == [
        "/patches",
        "/compute",
    ]
    assert not any("nova" in line for line in owned)


def test_whom_it_serves_is_known_to_later_verbs(machine):
    one = machine({"docker -H unix:///run/docker.sock version": "20.10"})
    assert nova_compute.remembered(one.manifest) == nova_compute.UNKNOWN
    HypervisorAlone(one).configure(SERVED)
    assert nova_compute.remembered(one.manifest) == SERVED
    HypervisorAlone(one).stop()
    assert any(line.startswith(PYTHON) and "containers.lxcfs" in line for line in one.commands)


def test_start_has_the_supervisor_first_and_stop_ends_all(machine, monkeypatch):
    one, seen = machine({"docker -H unix:///run/docker.sock info": GOOD_INFO, "stat -L": "root:docker 660"}), []
    for name in ("prepare", "finish"):
        monkeypatch.setattr(one.backend, name, lambda name=name: seen.append(name))
    monkeypatch.setattr(lxcfs, "start", lambda _: seen.append("lxcfs"))
    HypervisorAlone(one).start()
    assert seen == ["prepare", "lxcfs"]
    for name in ("docker", "lxcfs"):
        one.records.define(Service(name=name, command=("x",)))
    monkeypatch.setattr(one.backend, "stop_all", lambda services, _: seen.extend(each.name for each in services))
    monkeypatch.setattr(one.backend, "stop", lambda service: seen.append(service.name))
    del seen[:]
    HypervisorAlone(one).stop()
    assert seen == ["lxcfs", "docker", "finish"]


VOLUMES = ("volumes.enable=true", "key_manager.enable=true")


def test_with_volumes_servers_have_what_mounts_and_decrypts_them(machine, monkeypatch):
    """In the environment of that Nova: there may be no other, and scripts are where its installer likes them."""
    one, started = machine(BARE, *VOLUMES), []
    monkeypatch.setattr(one.backend, "name", "systemd")
    HypervisorAlone(one).install()
    made = {entry.name for entry in one.manifest.entries() if entry.kind == "package"}
    assert {"e2fsprogs", "dosfstools", "cryptsetup-bin", "qemu-system-common"} <= made
    nova_compute.remember(one.manifest, SERVED)
    monkeypatch.setattr(Docker, "start", lambda *_: started.append("docker"))
    monkeypatch.setattr(environments, "supervise", lambda _: None)
    monkeypatch.setattr(mounts, "ensure_running", lambda _, service: started.append(service))
    HypervisorAlone(one).start()
    engine, holder, broker = started
    assert (engine, holder.name, broker.name) == ("docker", "mount-holder", "mount-broker")
    assert holder.command == (PYTHON, "-P", "-c", "from dockstack.mounts.holder import main; main()")
    assert broker.command == (PYTHON, "-P", "-c", "from dockstack.mounts.broker import main; main()")
    require_no_cloud(one.records)


def test_cleanup_leaves_nothing_of_what_mounts_once_the_servers_are_gone(machine, monkeypatch):
    one, seen = machine({}, *VOLUMES), []
    nova_compute.remember(one.manifest, SERVED)
    for service in mounts.services(one.node, SERVED):
        one.records.define(service)
    monkeypatch.setattr(Docker, "cleanup", lambda *_: seen.append("servers"))
    monkeypatch.setattr(one.backend, "remove", lambda service: seen.append(service.name))
    monkeypatch.setattr(processes, "with_arguments", lambda *last: seen.append(last[0].split()[1]) or [])
    HypervisorAlone(one).cleanup()
    assert seen == ["servers", "mount-broker", "mount-holder", "dockstack.mounts.holder"]
    assert not one.records.services()
    assert any(line.startswith("rm ") and str(MOUNT_SOCKET.parent) in line for line in one.commands)


def test_cleanup_takes_servers_off_a_switch_that_stays(machine):
    one = machine({"ps -a": [f"aaa nova-{A} {A}", f"bbb nova-{B} {B}", f"ccc web {A}"]})
    nova_compute.remember(one.manifest, SERVED)
    HypervisorAlone(one).cleanup()
    assert "docker -H unix:///run/docker.sock rm -f -v aaa bbb" in one.commands
    (unplugging,) = [line for line in one.commands if "del-port" in line]
    assert f"for server in {A} {B};" in unplugging
    assert not any("del-br" in line for line in one.commands)
    removed = " ".join(line for line in one.commands if line.startswith("rm "))
    assert "/var/lib/dockstack/patches" in removed
    assert "/var/lib/dockstack/compute" in removed


def test_without_servers_the_switch_is_not_asked(machine):
    one = machine({"docker -H": {"success": False}})
    HypervisorAlone(one).cleanup()
    assert not any("ovs-vsctl" in line for line in one.commands)


def test_a_cloud_of_ours_is_not_touched(tmp_path):
    records = Records(tmp_path)
    for name in ("docker", "lxcfs"):
        records.define(Service(name=name, command=("x",)))
    require_no_cloud(records)
    records.define(Service(name="nova-compute", command=("x",)))
    with pytest.raises(DockstackError, match="nova-compute") as refusal:
        require_no_cloud(records)
    assert "dockstack clean" in refusal.value.resolution


def test_what_is_noted_is_plain_data(machine):
    one = machine()
    nova_compute.remember(one.manifest, SERVED)
    assert json.loads(one.manifest.done(nova_compute.SERVED))["user"] == "stack"

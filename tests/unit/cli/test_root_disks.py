# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.cli import root_disks
from dockstack.compute.resources.storage import Storage
from dockstack.deploy.node.output import Output
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit


class Shell:
    """Answers for the engines that are up."""

    def __init__(self, **answers) -> None:
        self.answers = answers

    def run(self, command, *, check):
        assert not check
        socket = command[command.index("-H") + 1]
        answer = self.answers.get("host2" if "host2" in socket else "here")
        return Output(answer is not None, answer or "", "")


def test_each_hosts_disks_are_told(monkeypatch):
    asked = []

    def read(directory, driver):
        asked.append((directory, driver))
        return Storage(None, f"{driver} on it", sized=driver == "btrfs")

    monkeypatch.setattr(root_disks, "read_storage", read)
    services = [
        Service("nova-compute", ("x",)),
        Service("host2-nova-compute", ("x",), inside="host2"),
        Service("mariadb", ("x",)),
    ]
    up = Shell(here="btrfs /var/lib/docker\n", host2="overlay2 /var/lib/docker\n")
    here, second = root_disks.look(services, "/run/docker.sock", up)
    assert (here.host, here.limited, second.host, second.limited) == ("", True, "host2", False)
    assert here.text == "each server is held to its flavor's disk (btrfs on it)"
    assert second.text == "a server may fill the host's: overlay2 on it has no limit for one server"
    assert asked == [("/var/lib/docker", "btrfs"), ("/var/lib/dockstack/hosts/host2/var/lib/docker", "overlay2")]
    assert root_disks.look(services, "/run/docker.sock", Shell()) == []


def test_a_controller_alone_has_none():
    assert root_disks.look([Service("mariadb", ("x",))], "/run/docker.sock", Shell(here="x y")) == []

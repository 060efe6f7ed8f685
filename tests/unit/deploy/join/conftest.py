# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import paramiko
import pytest

import cloud_files
from dockstack.deploy.join import service_files
from dockstack.deploy.node import connection
from dockstack.deploy.wanted import inventory
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument
from ssh_server import serving


@pytest.fixture
def cloud(tmp_path):
    """A cloud of Kolla-Ansible's, whose document has no problem."""
    sources = service_files.read(cloud_files.write(cloud_files.KOLLA, tmp_path)).sources
    document = CloudDocument([*sources, SourceValues("test", {"release": "2026.2"})])
    document.require_usable("")
    return document


@pytest.fixture
def compute():
    """A compute node that is reached over SSH, with these attributes."""

    def build(*assignments, name="one", **raw):
        further = {name: {"connector": "@ssh", "roles": ["compute"], **raw}}
        return inventory.load(None, assignments, further=further).nodes[0]

    return build


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An SSH server of the test's own; a file ``stubs/NAME`` there is a program of the machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "id"))
    with serving(tmp_path / "stubs", {"root": key}) as made:
        (tmp_path / "known").write_text(made.known_hosts_line)
        yield made


@pytest.fixture
def connected(server, compute, tmp_path):
    """A connection to that server's machine, which is a compute node called one."""
    login = {"key": str(tmp_path / "id"), "known_hosts": str(tmp_path / "known")}
    return connection.connect(compute(address="127.0.0.1", port=server.port, **login))

# SPDX-License-Identifier: Apache-2.0
"""OVN's databases over TLS: a real ovsdb-server takes whom the cloud's authority knows, and nobody else."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dockstack.deploy.configuration import certificates, openvswitch
from dockstack.deploy.configuration.certificates import CLIENT, Holder
from dockstack.deploy.configuration.settings import Ports, Settings
from dockstack.verify.probe import answers_tcp, wait_until
from held_ports import hold_port, port_of

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
NOW = datetime.now(UTC)


@pytest.fixture
def database(tmp_path, monkeypatch):
    """The address of a server that listens as that of a cloud with TLS does, and the authority of its certificate."""
    assert shutil.which("ovsdb-server"), "these tests need a switch: apt-get install openvswitch-switch"
    authority = certificates.authority(None, "dockstack on controller", NOW)
    served = certificates.issued(None, authority, Holder("controller", ("127.0.0.1",)), NOW)
    for name, text in (("OVN_AUTHORITY", certificates.certificate_of(authority)), ("OVN_CERTIFICATE", served)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(openvswitch, name, tmp_path / name)
    held = hold_port()
    port = port_of(held)
    settings = Settings(secrets={}, hostname="controller", listen_address="127.0.0.1", tls=True)
    arguments = openvswitch.listener_arguments(replace(settings, ports=Ports(ovn_southbound=port)), "sb")
    subprocess.run(["ovsdb-tool", "create", tmp_path / "db", SCHEMA], check=True)
    control = f"--unixctl={tmp_path}/control"
    with held, subprocess.Popen(["ovsdb-server", tmp_path / "db", "--no-chdir", control, *arguments]) as server:
        try:
            wait_until(lambda: answers_tcp("127.0.0.1", port), 60, "the database to listen")
            yield f"ssl:127.0.0.1:{port}", authority
        finally:
            server.terminate()


@pytest.fixture
def ask(database, tmp_path):
    """Ask the server for its databases, with a certificate, trusting an authority; return whether it answers."""
    address, _ = database

    def run(shown, trusted):
        shown_file, trusted_file = tmp_path / "shown.pem", tmp_path / "trusted.pem"
        shown_file.write_text(shown)
        trusted_file.write_text(certificates.certificate_of(trusted))
        files = [f"--private-key={shown_file}", f"--certificate={shown_file}", f"--ca-cert={trusted_file}"]
        line = ["ovsdb-client", "--timeout=60", "list-dbs", address, *files]
        return "Open_vSwitch" in subprocess.run(line, capture_output=True, text=True, check=False).stdout

    return run


def test_a_node_is_let_in_by_its_certificate_and_a_stranger_is_not(database, ask):
    _, authority = database
    node = Holder("node7", ("node7",), CLIENT)
    stranger = certificates.authority(None, "dockstack on controller", NOW)
    assert ask(certificates.issued(None, authority, node, NOW), authority)
    assert not ask(certificates.issued(None, stranger, node, NOW), authority)
    assert not ask(certificates.issued(None, authority, node, NOW), stranger), "and the node knows the cloud"

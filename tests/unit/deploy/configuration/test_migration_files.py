# SPDX-License-Identifier: Apache-2.0
"""How hosts of one machine let each other in."""

from __future__ import annotations

from dataclasses import replace

from dockstack.deploy.configuration import migration
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load


def test_the_server_listens_on_the_hosts_network_and_runs_nothing_but_the_receiver(settings):
    service = migration.server(replace(settings, tunnel_address="198.19.77.2"))
    command = " ".join(service.command)
    assert service.user == "nova"
    assert "-p 198.19.77.2:8222" in command
    assert {"-s", "-g", "-j", "-k"} <= set(service.command)
    assert service.command[-2:] == (
        "-c",
        "/opt/dockstack/openstack/bin/dockstack-migration-receiver --directory /var/lib/nova/docker/migrations",
    )


def test_a_host_logs_in_with_its_own_key_and_knows_whom_it_is_told():
    own = migration.own_files("PRIVATE\n")
    assert own[migration.KEY] == "PRIVATE\n"
    assert f"IdentityFile {migration.KEY}" in own[migration.CLIENT]
    assert dict(migration.options())["migration_ssh_command"] == f"ssh -F {migration.CLIENT}"
    others = migration.acquaintances(
        ["ssh-ed25519 A"], {"198.19.77.1": "ssh-ed25519 H", "198.19.77.2": "ssh-ed25519 I"}
    )
    assert others[migration.KNOWN_HOSTS] == "[198.19.77.1]:8222 ssh-ed25519 H\n[198.19.77.2]:8222 ssh-ed25519 I\n"


def test_a_key_opens_the_receiver_only_at_the_machines_own_ssh_server_too():
    (line,) = migration.acquaintances(["ssh-ed25519 A"], {})[migration.AUTHORIZED_KEYS].splitlines()
    receiver = "/opt/dockstack/openstack/bin/dockstack-migration-receiver --directory /var/lib/nova/docker/migrations"
    assert line == f'restrict,command="{receiver}" ssh-ed25519 A'


def test_hosts_are_let_in_after_they_have_files():
    (stage,) = [stage for stage in node_stages(load(None, ["hosts=2"]).local) if stage.name == "migration"]
    assert "host2-compute" in stage.after

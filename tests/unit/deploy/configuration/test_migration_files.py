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
        f"{settings.virtualenv}/bin/dockstack-migration-receiver --directory /var/lib/nova/docker/migrations",
    )


def test_each_host_knows_the_others_and_its_own_key():
    files = migration.files("PRIVATE\n", "ssh-ed25519 A nova", "ssh-ed25519 H", ("198.19.77.1", "198.19.77.2"))
    assert files[migration.KNOWN_HOSTS] == "[198.19.77.1]:8222 ssh-ed25519 H\n[198.19.77.2]:8222 ssh-ed25519 H\n"
    assert files["/var/lib/nova/.ssh/authorized_keys"] == "ssh-ed25519 A nova\n"
    assert f"IdentityFile {migration.KEY}" in files[migration.CLIENT]
    assert dict(migration.driver_options())["migration_ssh_command"] == f"ssh -F {migration.CLIENT}"


def test_hosts_are_let_in_after_they_have_files():
    (stage,) = [stage for stage in node_stages(load(None, ["hosts=2"]).local) if stage.name == "migration"]
    assert "host2-compute" in stage.after

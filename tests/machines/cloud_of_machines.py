# SPDX-License-Identifier: Apache-2.0
"""A cloud that `dockstack up` makes on one machine, for others to join; and questions to it, from here."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import openstack
import yaml
from lab import PATIENCE, RUNNING, wait_for
from openstack.config import OpenStackConfig

from dockstack.deploy import paths

if TYPE_CHECKING:
    from pathlib import Path

    from lab import Laboratory, Machine

NODES = "/root/nodes.yaml"
SERVER_SECONDS = 300  # several times what a quiet machine needs


@dataclass
class Work:
    """A verb at work: its process, and the file that it tells its events to."""

    process: subprocess.Popen
    told: Path

    @property
    def steps(self) -> int:
        """How many steps it has begun on its hosts."""
        return sum('"host"' in line for line in self.told.read_text().splitlines())

    @property
    def goes_on(self) -> bool:
        return self.process.poll() is None


@dataclass
class Cloud:
    """One cloud.

    Attributes:
        controller: the machine that it is on, and from which nodes are added.
    """

    controller: Machine
    _servers: list[str] = field(default_factory=list)

    def up(self) -> None:
        """Make it, as the README says, at an address that others reach."""
        here = self.controller
        here.run(f"cd dockstack && ./dockstack up {self.options}", timeout=1800)
        here.run("dockstack cloud import --from-here")

    @property
    def options(self) -> str:
        """What `up` is given, so that the cloud is for other machines, too; the tests are on one."""
        here = self.controller
        chosen = {"listen_address": here.address, "tls.enable": "true", "network.encap_ip": here.tunnel_address}
        return " ".join(f"--set {name}={value}" for name, value in chosen.items())

    def dockstack(self, line: str, **more) -> subprocess.CompletedProcess:
        """Run dockstack as the cloud's operator does."""
        return self.controller.run(f"dockstack {line}", **more)

    def describe(self, machines: tuple[Machine, ...]) -> None:
        """Write the environment file of nodes: one is logged in to as root, the next by sudo, and so on."""
        nodes = {
            one.name: {
                "connector": "@ssh",
                "roles": ["compute"],
                "address": one.address,
                "user": ("root", "admin")[number % 2],
                "attributes": {"network": {"encap_ip": one.tunnel_address}},
            }
            for number, one in enumerate(machines)
        }
        self.controller.write(NODES, yaml.safe_dump({"nodes": nodes}))

    def add(self, *names: str, **more) -> tuple[subprocess.CompletedProcess, dict]:
        """Add nodes of the environment file; return what came of it, and of each host."""
        done = self.dockstack(f"node add --json --environment {NODES} {' '.join(names)}", **more)
        last = done.stdout.strip().splitlines()[-1:]
        told = json.loads(last[0]) if last else {}
        return done, told.get("hosts", {})

    @contextmanager
    def at_work(self, line: str, program: str = "dockstack"):
        """Have a command of dockstack at work for the time of the block, and kill it then as by kill -9."""
        verb, _, _ = line.partition(" ")
        told = RUNNING / "verb.jsonl"
        with told.open("w") as out:
            process = subprocess.Popen(
                self.controller.command(f"exec {program} {line}"), stdout=out, stderr=subprocess.DEVNULL
            )
        try:
            yield Work(process, told)
        finally:
            self.controller.run(f"pkill -9 -f '[d]ockstack[^ ]* {verb} '", check=False)
            process.wait(30)

    @cached_property
    def connection(self) -> openstack.connection.Connection:
        """The administrator's."""
        return self.connect()

    def connect(self) -> openstack.connection.Connection:
        """Return a connection of the administrator's: each thread needs its own."""
        file, root = RUNNING / "clouds.yaml", self.controller.root
        known = yaml.safe_load((root / paths.CLOUDS_YAML.lstrip("/")).read_text())
        for entry in known["clouds"].values():
            entry["cacert"] = str(root / entry["cacert"].lstrip("/"))  # it is a path there
        file.write_text(yaml.safe_dump(known))
        config = OpenStackConfig(config_files=[str(file)], secure_files=[], vendor_files=[])
        return openstack.connection.Connection(config=config.get_one("dockstack"))

    def hosts(self) -> dict[str, str]:
        """Return the state of each nova-compute, by host."""
        services = self.connection.compute.services(binary="nova-compute")
        return {one.host: f"{one.status} {one.state}" for one in services}

    def boot(self, name: str, host: str):
        """Return a server that runs on that host."""
        compute = self.connection.compute
        image = next(iter(self.connection.image.images(name="dockstack-base")))
        made = compute.create_server(
            name=name,
            image_id=image.id,
            flavor_id=compute.find_flavor("m1.tiny").id,
            networks=[{"uuid": self.connection.network.find_network("private").id}],
            host=host,
        )
        self._servers.append(made.id)
        found = compute.wait_for_server(made, wait=SERVER_SECONDS * PATIENCE)
        assert found.compute_host == host
        return found

    def delete_servers(self) -> None:
        compute = self.connection.compute
        for server in self._servers:
            compute.delete_server(server)
        for server in self._servers:
            wait_for(lambda one=server: compute.find_server(one) is None, f"deletion of {server}", SERVER_SECONDS)
        self._servers.clear()


def address_of(server) -> str:
    """Return a server's IPv4 address."""
    (addresses,) = server.addresses.values()
    return next(one["addr"] for one in addresses if one["version"] == 4)


def cloud_on(lab: Laboratory) -> Cloud:
    """Return a cloud that is up, on a new machine."""
    controller = lab.machine("controller", "debian-12")
    lab.give_checkout(controller)
    made = Cloud(controller)
    made.up()
    return made

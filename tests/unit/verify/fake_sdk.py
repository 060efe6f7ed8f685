# SPDX-License-Identifier: Apache-2.0
"""A cloud in memory that answers the few SDK calls that the exercises make."""

from __future__ import annotations

import itertools
import socket
from types import SimpleNamespace

from openstack import exceptions as sdk_errors

LISTENER = socket.create_server(("127.0.0.1", 0))  # Cinder, as far as one looks
VOLUMES = f"http://127.0.0.1:{LISTENER.getsockname()[1]}"


class Resource(SimpleNamespace):
    def __getattr__(self, name):
        return None


class Shelf:
    """Resources of one kind."""

    def __init__(self, log, kind):
        self.log, self.kind, self.items, self.numbers = log, kind, {}, itertools.count(1)

    def create(self, **attributes):
        item = Resource(id=f"{self.kind}-{next(self.numbers)}", **attributes)
        self.items[item.id] = item
        self.log.append(f"create {self.kind} {item.name or item.id}")
        return item

    def get(self, identifier):
        identifier = getattr(identifier, "id", identifier)
        if identifier not in self.items:
            raise sdk_errors.NotFoundException(f"no {self.kind} {identifier}")
        return self.items[identifier]

    def delete(self, identifier, ignore_missing=True):
        identifier = getattr(identifier, "id", identifier)
        item = self.items.pop(identifier, None)
        if item is None and not ignore_missing:
            raise sdk_errors.NotFoundException(identifier)
        if item is not None:
            self.log.append(f"delete {self.kind} {item.name or item.id}")

    def list(self, **filters):
        name = filters.get("name", "").removeprefix("^")
        return iter([item for item in self.items.values() if (item.name or "").startswith(name)])


class FakeCloud:
    """The connection; ``status`` is what a new server becomes."""

    def __init__(self, status="ACTIVE", fault=None, volumes=VOLUMES):
        self.log = []
        shelf = lambda kind: Shelf(self.log, kind)  # noqa: E731 - one line a kind reads better
        self.servers, self.groups, self.rules, self.keys = shelf("server"), shelf("group"), shelf("rule"), shelf("key")
        self.ips, self.networks, self.routers, self.images = (
            shelf("ip"),
            shelf("network"),
            shelf("router"),
            shelf("image"),
        )
        self.projects, self.users, self.volumes = shelf("project"), shelf("user"), shelf("volume")
        self.session = SimpleNamespace(get_endpoint=lambda service_type: volumes)
        self.block_storage = SimpleNamespace(
            volumes=self.volumes.list, get_volume=self.volumes.get, delete_volume=self.volumes.delete
        )
        self.ports = []
        self.status, self.fault = status, fault
        self.compute = SimpleNamespace(
            create_server=self.create_server, get_server=self.servers.get, delete_server=self.servers.delete,
            servers=self.servers.list, create_keypair=self.keys.create, delete_keypair=self.keys.delete,
            keypairs=self.keys.list, server_actions=lambda server: [Resource(action="create", message="Error")],
            get_server_console_output=lambda server, length=None: {"output": "booting\nlogin:"},
        )  # fmt: skip
        self.network = SimpleNamespace(
            create_security_group=self.groups.create, delete_security_group=self.groups.delete,
            security_groups=self.groups.list, create_security_group_rule=self.rules.create,
            ports=lambda device_id: iter([port for port in self.ports if port.device_id == device_id]),
            create_ip=self.ips.create, delete_ip=self.ips.delete, ips=self.ips.list, routers=self.routers.list,
            delete_router=self.routers.delete, networks=self.networks.list, delete_network=self.networks.delete,
            remove_interface_from_router=lambda router, port_id: self.log.append(f"detach {port_id}"),
        )  # fmt: skip
        self.identity = SimpleNamespace(
            projects=self.projects.list, users=self.users.list,
            delete_project=self.projects.delete, delete_user=self.users.delete,
        )  # fmt: skip
        self.image = SimpleNamespace(images=self.images.list, delete_image=self.images.delete)

    def create_server(self, **wanted):
        return self.servers.create(status=self.status, fault=self.fault, **wanted)

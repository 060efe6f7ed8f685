# SPDX-License-Identifier: Apache-2.0
"""Further tenants for exercises on isolation: projects, each with a user, a network and a router."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from openstack import exceptions as sdk_errors

from dockstack.verify.context import Tenant
from dockstack.verify.interrupts import postponed
from dockstack.verify.model import CheckFailed

if TYPE_CHECKING:
    from dockstack.verify.context import Context

ROLE = "member"


def make_tenant(ctx: Context, what: str, cidr: str) -> Tenant:
    """Make a project, a member of it, and that member's own network with a router to the outside."""
    admin = ctx.connection
    project, connection = make_project(ctx, what)
    with postponed():
        network = connection.network.create_network(name=ctx.name(f"{what}-net"))
        ctx.stack.callback(connection.network.delete_network, network.id, ignore_missing=True)
    subnet = connection.network.create_subnet(
        network_id=network.id, name=ctx.name(f"{what}-subnet"), ip_version=4, cidr=cidr
    )
    external = ctx.facts.external_network_id
    with postponed():
        router = connection.network.create_router(
            name=ctx.name(f"{what}-router"), external_gateway_info={"network_id": external}
        )
        ctx.stack.callback(admin.network.delete_router, router.id, ignore_missing=True)
    with postponed():
        connection.network.add_interface_to_router(router.id, subnet_id=subnet.id)
        ctx.stack.callback(connection.network.remove_interface_from_router, router.id, subnet_id=subnet.id)
    ctx.say(f"made project {project.name}")
    return Tenant(connection, network.id, external)


def make_project(ctx: Context, what: str) -> tuple[Any, Any]:
    """Make a project with one member; return it and the member's connection."""
    identity = ctx.connection.identity
    wanted = {"name": ctx.name(what), "domain_id": "default", "description": "made by dockstack verify"}
    with postponed():
        project = identity.create_project(**wanted)
        ctx.stack.callback(identity.delete_project, project.id, ignore_missing=True)
        ctx.stack.callback(delete_default_groups, ctx.connection, project.id)
    password = secrets.token_urlsafe(18)
    with postponed():
        user = identity.create_user(name=ctx.name(f"{what}-user"), domain_id="default", password=password)
        ctx.stack.callback(identity.delete_user, user.id, ignore_missing=True)
    role = identity.find_role(ROLE)
    if role is None:
        raise CheckFailed(f"Keystone has no role {ROLE!r}.", "`keystone-manage bootstrap` makes it.")
    identity.assign_project_role_to_user(project.id, user.id, role.id)
    connection = ctx.connection.connect_as(
        username=user.name, password=password, project_name=project.name,
        user_domain_id="default", project_domain_id="default",
    )  # fmt: skip
    ctx.stack.callback(connection.close)
    return project, connection


def delete_default_groups(connection: Any, project_id: str) -> None:
    """Delete the security group that Neutron makes for every project by itself."""
    for group in connection.network.security_groups(project_id=project_id):
        try:
            connection.network.delete_security_group(group.id, ignore_missing=True)
        except sdk_errors.ConflictException as error:
            raise CheckFailed(
                f"Security group {group.id} of a deleted project is still in use.",
                "Some port of that project was not removed: `openstack port list --project`.",
                str(error),
            ) from error

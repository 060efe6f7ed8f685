# SPDX-License-Identifier: Apache-2.0
"""Volumes, if they are wanted: Cinder's user, files, pool, database, account, services, and types of volumes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dockstack import names
from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.configuration.cinder import CONF, DIRECTORY, PASTE, STATE_DIRECTORY, USER, cinder_conf
from dockstack.deploy.configuration.mariadb import account_sql
from dockstack.deploy.configuration.privilege import sudoers
from dockstack.deploy.hypervisors import chosen, storage
from dockstack.deploy.node.environments import ensure_wheel
from dockstack.deploy.recipes.controller import (
    copy_paste_file,
    forget,
    install_script,
    migrate,
    once_in_database,
    provision_once,
    retire,
    write_api_file,
    write_configuration,
)
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.infrastructure import run_sql
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.attributes import Attributes
    from dockstack.deploy.wanted.inventory import Node

VOLUME_POOL = "volume-pool"
"""The manifest's kind of a file system in a file that holds volumes."""
SERVICES = ("cinder-api", "cinder-volume")
_FORMER = ("cinder-scheduler", "cinder-backup")
"""What ran on its own before it became a part of cinder-volume."""
SUDOERS = "/etc/sudoers.d/dockstack-cinder"
FILTERS = f"{DIRECTORY}/resource_filters.json"
FILES = "cinder-files"
_ACCOUNT = "cinder-account"
"""The stage that makes Cinder's account, and what the manifest calls it that it was made."""
MANAGE = (f"{paths.OPENSTACK_VENV}/bin/cinder-manage", "--config-file", CONF)


def wanted(node: Node) -> bool:
    """Tell whether Cinder runs here."""
    return node.has(Role.CONTROLLER) and node.attributes.flag("volumes.enable")


def before_hosts(node: Node) -> tuple[str, ...]:
    """Return what comes before nova-compute, and before namespaces of further hosts, which have the mounts of then."""
    return (FILES,) if wanted(node) else ()


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of Cinder, or that which takes away what an earlier run had started."""
    if not node.has(Role.CONTROLLER):
        return ()
    if not wanted(node):
        return (Stage("cinder", "Looking for Cinder", stop, ("supervisor", "identity"), weight=0, phase="services"),)
    installed = ("hypervisor-configure",) if chosen(node) is not None else ("command-line", "openstack-environment")
    started = ("cinder-database", _ACCOUNT, "token-cache", "message-bus", "glance", *installed)
    return (
        Stage(FILES, "Configuring Cinder", configure, ("accounts", "packages", "openstack-environment")),
        Stage(
            "cinder-database", "Migrating Cinder's database", migrate_database, (FILES, "database"), phase="databases"
        ),
        Stage(_ACCOUNT, "Making Cinder's account", provide, ("identity",), phase="identity"),
        Stage("cinder", "Starting Cinder", start, started, phase="services"),
        Stage("volume-types", "Making types of volumes", types, ("cinder",), phase="cloud"),
    )


def to_remember(attributes: Attributes) -> dict[str, Any]:
    """Return the options that a later ``up`` needs even if its command line does not repeat them.

    It would take Cinder away from servers that have volumes, or look for these elsewhere.
    """
    if not attributes.flag("volumes.enable"):
        return {"volumes.enable": None}
    names = ("volumes.enable", "volumes.store", "volumes.storage", "volumes.storage_gb")
    return {name: attributes[name] for name in names}


def pool(attributes: Attributes) -> storage.Volume | None:
    """Return the file system that holds the volumes; None for a plain directory."""
    kind = attributes.text("volumes.storage")
    if kind == storage.DIRECTORY:
        return None
    return storage.Volume(
        kind,
        attributes.number("volumes.storage_gb"),
        attributes.text("volumes.store"),
        unit="dockstack-cinder-volume.service",
        options="defaults",
        made=VOLUME_POOL,
        before=tuple(
            f"dockstack-{hosts.service_name(key, 'nova-compute') if key else 'nova-compute'}.service"
            for key in ("", *hosts.further_keys(attributes))
        ),
    )


def after_pool(machine: Machine, service: Service, key: str = "") -> Service:
    """Return a host's nova-compute as it starts where there are volumes: with their file system mounted.

    It resumes servers when it starts. Also where volumes were disabled, as servers keep those that they have; one whose
    file system cannot be mounted keeps the servers with volumes from starting, and no other.
    """
    enter = names.enter_host(key) if key else ()
    points = [entry.name for entry in machine.manifest.entries() if entry.kind == VOLUME_POOL]
    lines = ((*enter, "sh", "-c", f"{storage.mount_line(point)} || true") for point in points)
    return replace(service, prepare=(*service.prepare, *lines))


def services(machine: Machine) -> tuple[Service, ...]:
    """Return Cinder's services; that of the volumes has their file system mounted first."""
    volume = pool(machine.attributes)
    found = programs.cinder(settings_of(machine))
    if volume is None:
        return found
    return tuple(
        replace(service, prepare=(volume.mount_command,)) if service.name == "cinder-volume" else service
        for service in found
    )


def configure(machine: Machine) -> None:
    """Make the user, write the files, and have the pool mounted; only cinder sees what is in it."""
    settings = settings_of(machine)
    machine.user(USER, home=STATE_DIRECTORY, groups=(programs.CACHE_GROUP,))
    machine.directory(DIRECTORY, group=USER, mode=0o750)
    machine.directory(STATE_DIRECTORY, owner=USER, mode=0o755)
    machine.directory(f"/var/log/{USER}", group="adm", mode=0o750)
    machine.packages(*machine.distribution.packages_of("qemu-img"))
    volume = pool(machine.attributes)
    if volume is not None:
        storage.provide(machine, volume)
        _mount_on_further_hosts(machine, volume)
    private = ("conversion", "coordination", "lock")
    for directory in (settings.volume_pool, settings.volume_backups, *(f"{STATE_DIRECTORY}/{one}" for one in private)):
        machine.directory(directory, owner=USER, mode=0o700)
    write_configuration(machine, USER, {CONF: cinder_conf(settings)})
    copy_paste_file(machine, "cinder/api-paste.ini", PASTE, USER)
    copy_paste_file(machine, "cinder/resource_filters.json", FILTERS, USER)
    write_api_file(machine, settings, "cinder-api")
    install_script(machine, programs.CINDER_VOLUME)
    machine.file(SUDOERS, sudoers(settings, USER), mode=0o440)


def _mount_on_further_hosts(machine: Machine, volume: storage.Volume) -> None:
    """Have the pool on hosts that were there before it: their namespaces see a later mount only where / is shared.

    It is the same block device, so the same file system; a second loop device over the file would be another one.
    """
    store = shlex.quote(volume.mount_point)
    each = f'for host in {names.EXTRA_HOSTS}/*.mnt; do [ -e $host ] || continue; enter="nsenter --mount=$host"'
    machine.command(
        f"device=$(findmnt --first-only --noheadings --output SOURCE {store}) || exit; "
        f"{each}; $enter mountpoint -q {store} || $enter mount $device {store} || exit; done",
        title="Showing further hosts the volumes",
        unless=f"{each}; $enter mountpoint -q {store} || exit; done",
    )


def detach(machine: Machine) -> None:
    """Take devices off the volumes, which servers that are gone have left, and end what decrypts: it uses the pool."""
    store = shlex.quote(machine.attributes.text("volumes.store"))
    machine.run(
        "losetup --list --noheadings --output NAME,BACK-FILE | while read -r name file; do "
        f'case $file in {store}/*|{names.DECRYPTED_DIRECTORY}/*) losetup --detach "$name";; esac; done',
        check=False,
    )
    machine.run(
        f"for each in {names.DECRYPTED_DIRECTORY}/*-*; do "
        'read -r process <"$each/pid" && grep -q "$each" "/proc/$process/cmdline" && kill "$process" && '
        'timeout 10 tail --pid="$process" -f /dev/null; umount --lazy "$each/plain" "$each/served"; done 2>/dev/null',
        check=False,
    )


def migrate_database(machine: Machine) -> None:
    """Have the database, of the installed version."""
    settings = settings_of(machine)
    sql = account_sql(settings, USER, (USER,))
    once_in_database(machine, "cinder-database", sql, lambda: run_sql(machine, settings, sql))
    migrate(machine, settings, USER, USER, (*MANAGE, "db", "sync"), title="Migrating Cinder's database")


def provide(machine: Machine) -> None:
    """Make Cinder's account and its entry in the catalogue."""
    provision_once(machine, "identity", desired_state.volumes(settings_of(machine)), noted=_ACCOUNT)


def start(machine: Machine) -> None:
    """Have Cinder running."""
    if chosen(machine.node) is None:  # otherwise the driver of volumes came with that of servers
        ensure_wheel(machine, paths.OPENSTACK_VENV, extras_installed=paths.DRIVER_MARKER)
    forget(machine, _FORMER)
    for service in services(machine):
        ensure_running(machine, service)


def types(machine: Machine) -> None:
    """Make the types of volumes."""
    provision_once(machine, "volume-types", desired_state.volume_types(settings_of(machine)))


def stop(machine: Machine) -> None:
    """Have no Cinder, and none in the catalogue; volumes and backups stay, and are there again when it runs again."""
    desired = desired_state.volumes(settings_of(machine))
    retire(machine, (*SERVICES, *_FORMER), (CONF, PASTE, FILTERS, SUDOERS), provided=_ACCOUNT, desired=desired)

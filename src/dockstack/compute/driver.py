# SPDX-License-Identifier: Apache-2.0
"""Nova's virt driver: each call is translated and handed to a flow; what is done, and how, stands there."""
# ruff: noqa: ARG002, PLR0917 - the signatures are Nova's

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import nova.conf
import nova.context
from nova.compute import task_states
from nova.console import type as console_type
from nova.virt import driver
from oslo_utils import timeutils

from dockstack.compute import conf
from dockstack.compute.consoles.listener import NoPort
from dockstack.compute.consoles.vnc_workers import CannotDraw
from dockstack.compute.containers.events import Follower
from dockstack.compute.failures import isolated
from dockstack.compute.flows import (
    cold_migration,
    console,
    crash_dump,
    endings,
    guest_access,
    incoming_migration,
    interfaces,
    lifecycle,
    quiesce,
    recovery,
    references,
    report,
    rescue,
    resize,
    rounds,
    snapshot,
    volumes,
)
from dockstack.compute.host import copies, originals
from dockstack.compute.host.host import build_host
from dockstack.compute.host.lxcfs_watcher import Watcher
from dockstack.compute.host.notifier import EventNotifier
from dockstack.compute.model import Destination
from dockstack.compute.nova_api import (
    absent,
    boot_volumes,
    config_drive,
    devices,
    forgotten_tasks,
    glance,
    keys,
    migrations,
    neutron,
    placement,
    processors,
    rebuilds,
    records,
    servers,
    startup,
    states,
)
from dockstack.compute.nova_api import volumes as nova_volumes
from dockstack.compute.nova_api.faults import (
    console_faults,
    host_faults,
    move_faults,
    password_faults,
    picture_faults,
    server_faults,
    serving,
    snapshot_faults,
    spawn_faults,
)
from dockstack.compute.nova_api.references import Asking
from dockstack.compute.resources import usage
from dockstack.compute.resources.inventory import Reserved, build_inventory
from dockstack.compute.volumes import connector

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from dockstack.compute.engine import Event
    from dockstack.compute.model import Server

CONF = nova.conf.CONF

# What users and operators ask for, each a method of the driver.
COUNTED = (
    *("spawn", "rebuild", "destroy", "snapshot", "reboot", "power_on", "power_off", "pause", "unpause"),
    *("suspend", "resume", "rescue", "unrescue", "attach_interface", "detach_interface"),
    *("attach_volume", "detach_volume", "swap_volume", "extend_volume"),
    *("migrate_disk_and_power_off", "finish_migration", "confirm_migration", "finish_revert_migration"),
)


class DockerDriver(driver.ComputeDriver):
    """Nova servers as Docker containers."""

    # What is not named here is False, as Nova's base class has it.
    capabilities = driver.ComputeDriver.capabilities | {
        "supports_evacuate": True,
        "has_imagecache": True,
        "supports_pcpus": True,
        "supports_trusted_certs": True,
        "supports_image_type_raw": True,
        "supports_attach_interface": True,
        "supports_device_tagging": True,
        "supports_tagged_attach_interface": True,
        "supports_tagged_attach_volume": True,
        "supports_extend_volume": True,
        "supports_multiattach": True,
    }

    def __init__(self, virtapi: Any) -> None:
        """Read the options; nothing is called yet."""
        super().__init__(virtapi)
        conf.register(CONF)
        self._host = build_host(
            CONF.host,
            CONF.docker,
            glance.download_image,
            attachments=nova_volumes.read_volumes,
            encryption=keys.read_encryption,
        )
        self._follower: Follower | None = None
        self._notifier = EventNotifier(self._host.busy, self._tell)
        self._watcher: Watcher | None = None
        self._rounds: rounds.Rounds | None = None
        self._consoles = self._build_consoles()

    # -- the host's life

    def init_host(self, host: str) -> None:
        """Wait for the engine, then follow its events and LXCFS's life."""
        cpus = processors.read_sets(usage.list_cpus())
        self._host = build_host(
            host, CONF.docker, glance.download_image, cpus, nova_volumes.read_volumes, encryption=keys.read_encryption
        )
        self._host.counts.watch(self, COUNTED)
        self._consoles = self._build_consoles()
        if CONF.docker.skip_allocation_lookup:
            placement.spare_allocations(self.virtapi)
        startup.process_before_each(self.virtapi, self.process_instances_at_startup)
        with host_faults():
            recovery.prepare(self._host)
            cold_migration.announce(self._host)
        reconcile = recovery.Reconciler(
            self._host, self._read_claims, self._list_wanted, self._read_wanted, self._read_unrescued
        )
        self._notifier = EventNotifier(self._host.busy, self._tell)
        self._follower = Follower(self._host.engine, self._on_event, reconcile)
        self._follower.start()
        self._watcher = Watcher(self._host)
        self._watcher.start()
        end_forgotten_tasks = partial(
            forgotten_tasks.end_all, self._host.name, timeutils.utcnow(), self._host.busy.__contains__
        )
        bring_back_absent = partial(absent.bring_back_all, self._host.name, hold=self._host.busy.hold)
        self._rounds = rounds.Rounds(
            self._host,
            self._read_claims,
            self._read_unrescued,
            end_forgotten_tasks=end_forgotten_tasks,
            bring_back_absent=bring_back_absent,
        )
        self._rounds.start()

    def process_instances_at_startup(self, context: Any, instances: Any) -> Any:
        """Remove what a killed predecessor left over, before Nova looks at each server."""
        found = records.read_records(instances)
        with host_faults():
            abandoned = {uuid for uuid, record in found.items() if record.half_built}
            claims = _build_claims(self._host.name, found.keys(), abandoned)
            recovery.sweep(self._host, claims)
            incoming_migration.sweep(self._host, claims)
            for record in found.values():
                if record.half_rescued:
                    with isolated("taking back the rescue that was broken off", record.instance.uuid):
                        originals.restore(self._host, servers.describe(record.instance))
                        records.give_back(record)
            recovery.end_unknown_rescues(self._host, self._host.engine.containers(), self._read_unrescued)
            wanted = {uuid for uuid, record in found.items() if record.should_run_at_start}
            recovery.resume_rebooted(self._host, wanted, self._read_wanted_at_start)
        records.explain_abandoned(context, found.values())
        return instances

    def cleanup_host(self, host: str) -> None:
        """Stop following events and end the consoles; servers go on."""
        self._consoles.close()
        if self._follower is not None:
            self._follower.stop()
        if self._watcher is not None:
            self._watcher.stop()
        if self._rounds is not None:
            self._rounds.stop()

    # -- servers: from nothing and back

    def spawn(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
    ) -> None:
        """Make a server and start it."""
        servers.refuse_unsupported(instance, accel_info)
        attached = nova_volumes.build_volumes(block_device_info)
        image = boot_volumes.read_image(context, instance, attached)
        server = servers.build_new_server(instance, image, admin_password, injected_files)
        ports = partial(devices.build_ports, context, instance, network_info)
        drive = config_drive.find_drive(instance, network_info, server.files, admin_password)
        plugged = partial(neutron.wait_for_ports, self.virtapi, instance)
        with spawn_faults(instance, lifecycle.HOPELESS), glance.reading_as(context, instance.trusted_certs):
            server = references.locate(self._host, server, Asking(context, instance))
            spawn = partial(lifecycle.spawn, read_ports=ports, read_drive=drive, attached=attached, power_on=power_on)
            spawn(self._host, server, plugged)

    def rebuild(
        self,
        context: Any,
        instance: Any,
        image_meta: Any,
        injected_files: Any,
        admin_password: Any,
        allocations: Any,
        bdms: Any,
        detach_block_devices: Any,
        attach_block_devices: Any,
        network_info: Any = None,
        evacuate: bool = False,
        block_device_info: Any = None,
        preserve_ephemeral: bool = False,
        accel_uuids: Any = None,
        reimage_boot_volume: bool = False,
    ) -> None:
        """Make a server anew in its place: only when the new one can be made, and with its ports left on the switch."""
        rebuilds.leave_to_nova(bdms, evacuate, preserve_ephemeral, accel_uuids)
        image = glance.read_image(context, instance.image_ref)
        server = servers.build_new_server(instance, image, admin_password, injected_files)
        with spawn_faults(instance, lifecycle.HOPELESS), glance.reading_as(context, instance.trusted_certs):
            server = references.locate(self._host, server, Asking(context, instance))
            lifecycle.require_buildable(self._host, server)
        network_info = self._complete_ports(instance, network_info)
        with server_faults(instance):
            lifecycle.discard(self._host, server, CONF.shutdown_timeout)
        disks = rebuilds.prepare_devices(context, instance, bdms, attach_block_devices)
        new = (injected_files, admin_password, allocations, network_info, disks)
        self.spawn(context, instance, image_meta, *new)

    def destroy(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Unmake a server, whole, half-made or gone."""
        if migrations.stays_here(context, instance):
            return
        with serving(instance, network_info) as server:
            incoming_migration.forget(self._host, server)
            lifecycle.destroy(self._host, server)

    def cleanup(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        """Remove what is left of a server that was destroyed; without its ports, if Nova still needs those."""
        with serving(instance, network_info) as server:
            lifecycle.clean_up(self._host, server, keep_ports=not destroy_vifs)

    # -- images

    def snapshot(self, context: Any, instance: Any, image_id: str, update_task_state: Any) -> None:
        """Make an image of a server, which goes on as it was, and send it to Glance."""
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        upload = partial(glance.upload_snapshot, context, image_id, update_task_state)
        with snapshot_faults(instance):
            server = servers.describe(instance, instance.get_network_info())
            snapshot.take(self._host, server, image_id, upload)

    def cache_image(self, context: Any, image_id: str) -> bool:
        """Fetch an image before any server needs it; say whether it was not here yet."""
        with host_faults(), glance.reading_as(context):
            image = references.find(self._host, glance.read_image(context, image_id), Asking(context))
            return self._host.images.fetch_ahead(image)

    def manage_image_cache(self, context: Any, all_instances: Any) -> None:
        """Remove the images that no server has used for as long as [image_cache] says."""
        with host_faults():
            copies.sweep(self._host)
            report.age_out_images(self._host, {instance.image_ref for instance in all_instances}, CONF.image_cache)

    # -- power

    def reboot(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        reboot_type: str,
        block_device_info: Any = None,
        bad_volumes_callback: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Restart a server; SOFT lets it shut down, HARD kills it. Disk and NICs survive both."""
        network_info = self._complete_ports(instance, network_info)
        with serving(instance, network_info, block_device_info) as server:
            self._complete_arrival(context, instance, network_info, server)
            lifecycle.reboot(self._host, server, hard=reboot_type.upper() == "HARD")

    def power_on(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        """Start a stopped server with its network as Neutron says now."""
        network_info = self._complete_ports(instance, network_info)
        with serving(instance, network_info, block_device_info) as server:
            self._complete_arrival(context, instance, network_info, server)
            lifecycle.start(self._host, server)

    def power_off(self, instance: Any, timeout: int = 0, retry_interval: int = 0) -> None:
        """Stop a server. A signal, unlike a virtual power button, cannot get lost: nothing is repeated."""
        with serving(instance) as server, self._notifier.stopping(server.uuid):
            lifecycle.stop(self._host, server, timeout)

    def pause(self, instance: Any) -> None:
        """Freeze a server's processes in memory."""
        with serving(instance) as server:
            lifecycle.pause(self._host, server)

    def unpause(self, instance: Any) -> None:
        """Thaw a server's processes."""
        with serving(instance) as server:
            lifecycle.unpause(self._host, server)

    def suspend(self, context: Any, instance: Any) -> None:
        """Freeze a server's processes; they stay in memory."""
        self.pause(instance)

    def resume(
        self, context: Any, instance: Any, network_info: Any, block_device_info: Any = None, share_info: Any = None
    ) -> None:
        """Let a suspended server go on, or start it if its memory was lost with the machine."""
        network_info = self._complete_ports(instance, network_info)
        with serving(instance, network_info, block_device_info) as server:
            kept = lifecycle.resume(self._host, server)
        if not kept:
            records.explain_lost_memory(context, instance)

    def trigger_crash_dump(self, instance: Any) -> None:
        """Make a server's first process write down how it stands."""
        with serving(instance) as server:
            crash_dump.dump(self._host, server)

    def rescue(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        image_meta: Any,
        rescue_password: Any,
        block_device_info: Any,
        share_info: Any = None,
    ) -> None:
        """Run another image in a server's place, with the server's root file system in it."""
        network_info = self._complete_ports(instance, network_info)
        image = glance.read_image(context, servers.rescue_image_id(instance, image_meta))
        server = servers.build_rescue(instance, image, servers.build_bound_ports(network_info), rescue_password)
        server = servers.with_volumes(server, block_device_info)
        with server_faults(instance), glance.reading_as(context, instance.trusted_certs):
            rescue.begin(self._host, references.locate(self._host, server, Asking(context, instance)))

    def unrescue(self, context: Any, instance: Any) -> None:
        """Let a rescued server be itself again."""
        with serving(instance, self._complete_ports(instance, instance.get_network_info())) as server:
            rescue.end(self._host, server)

    def soft_delete(self, instance: Any) -> None:
        """Stop a server that may yet be restored."""
        self.power_off(instance)

    def restore(self, instance: Any) -> None:
        """Start a soft-deleted server again."""
        self.power_on(None, instance, instance.get_network_info())

    def resume_state_on_host_boot(
        self, context: Any, instance: Any, network_info: Any, share_info: Any, block_device_info: Any = None
    ) -> None:
        """Start a server that ran when the machine went down."""
        self.power_on(context, instance, network_info, block_device_info)

    def poll_rebooting_instances(self, timeout: int, instances: Any) -> None:
        """Do nothing: a reboot of ours ends, well or not, within the engine's time limits."""

    # -- another flavor

    def migrate_disk_and_power_off(
        self,
        context: Any,
        instance: Any,
        dest: str,
        flavor: Any,
        network_info: Any,
        block_device_info: Any = None,
        timeout: int = 0,
        retry_interval: int = 0,
    ) -> str:
        """Begin a resize or a cold migration: refuse what is impossible, stop the server if need be, send its files."""
        with move_faults(instance):
            migrations.refuse_unsupported(instance, flavor)
            here = Destination(self._host.name, self.get_host_ip_addr())
            destination = migrations.find_destination(context, instance, dest, here)
            server, wanted = (
                servers.describe(each, network_info, block_device_info)
                for each in (instance, migrations.with_flavor(instance, flavor))
            )
            image = boot_volumes.find_image(context, instance, server.volumes)
            return cold_migration.begin(self._host, server, wanted, destination, image=image, timeout=timeout)

    def finish_migration(
        self,
        context: Any,
        migration: Any,
        instance: Any,
        disk_info: str,
        network_info: Any,
        image_meta: Any,
        resize_instance: bool,
        allocations: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        """Have a server here with its new flavor, which Nova may yet take back."""
        plugged = partial(neutron.wait_for_ports, self.virtapi, instance)
        drive = config_drive.find_drive(instance, network_info)
        reading = glance.reading_as(context, instance.trusted_certs)
        with serving(instance, network_info, block_device_info) as server, reading:
            image = boot_volumes.find_or_name_image(context, instance, server.volumes)
            cold_migration.finish(self._host, server, disk_info, image, plugged, power_on=power_on, read_drive=drive)

    def confirm_migration(self, context: Any, migration: Any, instance: Any, network_info: Any) -> None:
        """Remove a server from the host that it came from; a resize on one host leaves nothing of the old flavor."""
        if migrations.other_end(migration, self._host.name) is not None:
            with serving(instance, network_info) as server:
                lifecycle.destroy(self._host, server)

    def finish_revert_migration(
        self,
        context: Any,
        instance: Any,
        network_info: Any,
        migration: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        """Give a server its old flavor back, on the host where it was."""
        half_sent = migrations.half_sent(migration, self._host.name)
        with serving(instance, network_info, block_device_info) as server:
            if migrations.other_end(migration, self._host.name) is None:
                resize.fit(self._host, server, power_on=power_on)
            else:
                cold_migration.take_back(self._host, server, half_sent, power_on=power_on)

    def set_admin_password(self, instance: Any, new_pass: str) -> None:
        """Set the password of a running server's administrator."""
        with serving(instance) as server, password_faults(guest_access.PasswordRefused):
            guest_access.set_password(self._host, server, servers.find_admin_user(instance), new_pass)
        records.keep_password(instance, new_pass)

    # -- volumes

    def get_volume_connector(self, instance: Any) -> dict[str, Any]:
        """Tell Cinder by which ways this host reaches volumes."""
        return connector.describe_host(CONF.host, CONF.my_block_storage_ip)

    def attach_volume(
        self,
        context: Any,
        connection_info: Any,
        instance: Any,
        mountpoint: str,
        disk_bus: Any = None,
        device_type: Any = None,
        encryption: Any = None,
    ) -> None:
        """Give a server a volume, whether it runs or not."""
        with serving(instance) as server:
            volumes.attach(self._host, server, nova_volumes.build_volume(connection_info, mountpoint))
        devices.renew_metadata(context, instance)

    def detach_volume(
        self, context: Any, connection_info: Any, instance: Any, mountpoint: str, encryption: Any = None
    ) -> None:
        """Take a volume from a server, whether it runs or not."""
        with serving(instance) as server:
            volumes.detach(self._host, server, nova_volumes.build_volume(connection_info, mountpoint))

    def swap_volume(
        self,
        context: Any,
        old_connection_info: Any,
        new_connection_info: Any,
        instance: Any,
        mountpoint: str,
        resize_to: int,
    ) -> None:
        """Put another volume with the same content in the place of one that the server does not use just now."""
        old, new = (nova_volumes.build_volume(info, mountpoint) for info in (old_connection_info, new_connection_info))
        with serving(instance) as server:
            volumes.swap(self._host, server, old, new)

    def quiesce(self, context: Any, instance: Any, image_meta: Any) -> None:
        """Have a server stand still, with what it has written on its volumes, for snapshots of these."""
        with serving(instance) as server:
            quiesce.quiesce(self._host, server)

    def unquiesce(self, context: Any, instance: Any, image_meta: Any) -> None:
        """Let a server go on after that."""
        with serving(instance) as server:
            quiesce.unquiesce(self._host, server.uuid)

    def extend_volume(self, context: Any, connection_info: Any, instance: Any, requested_size: int) -> None:
        """Let a server see that its volume has become larger."""
        with serving(instance) as server:
            volume = nova_volumes.complete(instance, nova_volumes.build_volume(connection_info, ""))
            volumes.extend(self._host, server, volume, requested_size)

    def get_device_name_for_instance(self, instance: Any, bdms: Any, block_device_obj: Any) -> str:
        """Name the next volume of a server."""
        return nova_volumes.name_device(bdms)

    def default_device_names_for_instance(self, instance: Any, root_device_name: Any, *block_device_lists: Any) -> None:
        """Name the volumes of a new server."""
        nova_volumes.name_devices(root_device_name, *block_device_lists)

    def block_stats(self, instance: Any, disk_id: str) -> Any:
        """Tell what a server moved to and from a volume since its start; Nova's last number, of flushes, is none."""
        with serving(instance) as server:
            used = volumes.read_usage(self._host, server, disk_id)
        return [*nova_volumes.count(used), 0]

    # -- network

    def plug_vifs(self, instance: Any, network_info: Any) -> None:
        """See to it that a running server's ports are on the switch; a stopped one gets its own when it starts.

        Nova asks for it when its service starts, and calls a server broken whose ports cannot be had then. So whatever
        is wrong with them is logged: it is put right when the server starts.
        """
        with serving(instance, network_info) as server:
            interfaces.replug(self._host, server)

    def unplug_vifs(self, instance: Any, network_info: Any) -> None:
        """Take a server's ports off the switch and remove its links."""
        with server_faults(instance):
            interfaces.disconnect(self._host, instance.uuid, servers.build_ports(network_info))

    def attach_interface(self, context: Any, instance: Any, image_meta: Any, vif: Any) -> None:
        """Give a server one more network interface, whether it runs or not."""
        servers.refuse_unbound([vif])
        metadata = devices.build_metadata(context, instance, instance.get_network_info())
        with serving(instance, instance.get_network_info()) as server:
            interfaces.attach(self._host, server, *servers.build_ports([vif]))
        instance.device_metadata = metadata  # Nova saves it with what else is new

    def detach_interface(self, context: Any, instance: Any, vif: Any) -> None:
        """Take a network interface from a server, whether it runs or not."""
        with serving(instance, instance.get_network_info()) as server:
            interfaces.detach(self._host, server, *servers.build_ports([vif]))

    def inject_network_info(self, instance: Any, nw_info: Any) -> None:
        """Bring a server's addresses and routes to what Neutron says now."""
        with serving(instance, nw_info) as server:
            interfaces.refresh(self._host, server)

    # -- what is there

    def get_info(self, instance: Any, use_cache: bool = True) -> Any:
        """Tell a server's power state."""
        with server_faults(instance):
            return states.build_info(endings.read_state(self._host, instance.uuid, fresh=not use_cache), instance)

    def list_instances(self) -> list[str]:
        """List the names under which operators know this host's servers."""
        with host_faults():
            return self._host.audit.list_names()

    def list_instance_uuids(self) -> list[str]:
        """List this host's servers."""
        with host_faults():
            return [container.server_uuid for container in self._host.audit.list_servers()]

    def get_num_instances(self) -> int:
        """Count this host's servers."""
        return len(self.list_instance_uuids())

    def instance_exists(self, instance: Any) -> bool:
        """Whether a server has a container here."""
        with server_faults(instance):
            return self._host.audit.has(instance.uuid)

    def get_console_output(self, context: Any, instance: Any) -> str:
        """Return the end of what a server's processes wrote; Nova takes text of one byte a character."""
        with serving(instance) as server:
            return endings.read_log(self._host, server).decode("latin-1")

    def get_serial_console(self, context: Any, instance: Any) -> Any:
        """Tell Nova's proxy where a server's console is, and the secret that opens it."""
        with console_faults(instance, CONF.host, console.NotRunning, NoPort):
            found = console.announce_serial(self._host, self._consoles, servers.describe(instance))
        return console_type.ConsoleSerial(found.host, found.port, found.path)

    def get_vnc_console(self, context: Any, instance: Any) -> Any:
        """Tell Nova's proxy where a picture of a server's console is, and the secret that opens it."""
        with console_faults(instance, CONF.host, console.NotRunning, NoPort), picture_faults(CannotDraw):
            found = console.announce_vnc(self._host, self._consoles, servers.describe(instance))
        return console_type.ConsoleVNC(found.host, found.port, found.path)

    def get_diagnostics(self, instance: Any) -> dict[str, Any]:
        """Tell what a server uses, in this driver's own keys (API below 2.48)."""
        return states.build_flat_diagnostics(instance, self._diagnose(instance))

    def get_instance_diagnostics(self, instance: Any) -> Any:
        """Tell what a server uses, in Nova's terms."""
        return states.build_diagnostics(instance, self._diagnose(instance))

    # -- what the host has

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        """Name the one node that this service is."""
        return [self._host.name]

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        """Describe the host, with one call to the engine however many servers there are."""
        with host_faults():
            return report.describe_host(self._host, states.build_architecture, processors.build_topology)

    def update_provider_tree(self, provider_tree: Any, nodename: str, allocations: Any = None) -> None:
        """Report what the host has to Placement; an operator's ratios there stay unless options say otherwise."""
        with host_faults():
            capacity, ours = report.read_capacity(self._host), report.read_traits(self._host)
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        reserved = Reserved(
            CONF.reserved_host_cpus, CONF.reserved_host_memory_mb, self._get_reserved_host_disk_gb_from_config()
        )
        provider_tree.update_inventory(nodename, build_inventory(capacity, reserved, ratios))
        processors.report_traits(provider_tree, nodename, usage.read_features(), ours)

    def get_all_volume_usage(self, context: Any, compute_host_bdms: Any) -> list[dict[str, Any]]:
        """Tell what the volumes of this host's running servers moved since their starts."""
        return [*self._list_volume_usage(compute_host_bdms)]

    def get_host_ip_addr(self) -> str:
        """Return the address by which other hosts reach this one."""
        return str(CONF.my_ip)

    def get_host_uptime(self) -> str:
        """Return what uptime(1) would say."""
        return usage.read_uptime()

    def get_host_cpu_stats(self) -> dict[str, int]:
        """Return the processors' times in nanoseconds and their clock in MHz."""
        return asdict(usage.read_cpu_times())

    def default_root_device_name(self, instance: Any, image_meta: Any, root_bdm: Any) -> str:
        """Name the root device for Nova's records; a container has a root file system and no disk."""
        return "/dev/vda"

    def _list_volume_usage(self, compute_host_bdms: Any) -> Iterator[dict[str, Any]]:
        for found in compute_host_bdms:
            instance = found["instance"]
            for volume in nova_volumes.build_recorded(found["instance_bdms"]):
                with isolated("reading what its volume moved", instance.uuid):
                    used = volumes.read_usage(self._host, servers.describe(instance), volume.device)
                    yield nova_volumes.build_usage(instance, volume.id, used)

    def _diagnose(self, instance: Any) -> dict[str, Any]:
        with serving(instance, instance.get_network_info()) as server:
            return report.diagnose(self._host, server)

    def _build_consoles(self) -> console.Consoles:
        serial, vnc = CONF.serial_console, CONF.vnc
        return console.Consoles(
            self._host,
            console.serial_endpoint(serial.proxyclient_address, serial.port_range),
            console.vnc_endpoint(vnc.server_listen, vnc.server_proxyclient_address),
        )

    def _complete_arrival(self, context: Any, instance: Any, network_info: Any, server: Server) -> None:
        """Complete a server's move to this host if it was broken off after all its files had come; else do nothing."""
        if not incoming_migration.is_unfinished(self._host, server):
            return
        drive = config_drive.find_drive(instance, network_info)
        context = context or nova.context.get_admin_context()  # Nova gives none where it restores a deleted server
        with glance.reading_as(context, instance.trusted_certs):
            image = partial(boot_volumes.find_or_name_image, context, instance, server.volumes)
            incoming_migration.complete(self._host, server, image, drive)

    def _complete_ports(self, instance: Any, network_info: Any) -> Any:
        """Read a server's ports anew before it starts, if Nova's record of them cannot be right."""
        with serving(instance, network_info) as server:
            devices = interfaces.find_devices(self._host, server)
            arrives = incoming_migration.arrives(self._host, server)
            return neutron.complete_ports(instance, network_info, devices, arrives=arrives)

    def _describe_whole(self, instance: Any) -> Server:
        server = servers.describe(instance, instance.get_network_info())
        devices = interfaces.find_devices(self._host, server)
        return servers.describe(instance, neutron.complete_ports(instance, instance.get_network_info(), devices))

    # -- recovery's view of Nova

    def _on_event(self, event: Event) -> None:
        self._host.audit.forget(event.server_uuid)
        self._notifier.take(event)

    def _tell(self, event: Event) -> None:
        emit = lambda told: self.emit_event(states.build_event(told))  # noqa: E731
        fail = partial(records.fail_new_server, self._host.name)
        endings.tell(self._host, event, emit, fail, self._read_rebooted)

    def _read_claims(self) -> recovery.Claims:
        return _build_claims(self._host.name, records.list_uuids(self._host.name))

    def _list_wanted(self) -> set[str]:
        found = records.list_records(self._host.name) if CONF.resume_guests_state_on_host_boot else {}
        return {uuid for uuid, record in found.items() if record.should_run}

    def _read_wanted(self, server_uuid: str) -> Server | None:
        record = records.read_record(self._host.name, server_uuid)
        if record is None or not record.should_run:
            return None
        return self._describe_whole(record.instance)

    def _read_wanted_at_start(self, server_uuid: str) -> Server | None:
        record = records.read_record(self._host.name, server_uuid)
        return self._describe_whole(record.instance) if record is not None and record.should_run_at_start else None

    def _read_rebooted(self, server_uuid: str) -> Server | None:
        record = records.read_record(self._host.name, server_uuid)
        if record is not None and record.under_way:
            raise endings.TaskUnderWay
        return self._describe_whole(record.instance) if record is not None and record.should_run else None

    def _read_unrescued(self, server_uuid: str) -> recovery.Unrescued | None:
        record = records.read_record(self._host.name, server_uuid)
        if record is None or not record.unrescued:
            return None
        return recovery.Unrescued(self._describe_whole(record.instance), runs=record.should_run)


def _build_claims(host: str, found: Collection[str], abandoned: Collection[str] = ()) -> recovery.Claims:
    """Say which servers Nova has on this host, and which of them may go.

    Args:
        host: Nova's name of it.
        found: the servers that Nova has on it.
        abandoned: those whose build was broken off. Only when nova-compute starts can one tell: at other times, a build
            that has not ended is under way.
    """
    return recovery.Claims(set(found) - set(abandoned), abandoned, has_left=partial(records.has_left, host))

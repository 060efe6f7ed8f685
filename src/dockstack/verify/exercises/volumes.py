# SPDX-License-Identifier: Apache-2.0
"""Volumes: what one server writes another reads, and one that grows while it is in use."""

from __future__ import annotations

from typing import Any

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.interrupts import postponed
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import Guest, delete_volume, make_guest

GIB = 1 << 30
PLACE = "/mnt/dockstack-volume"


def write_and_read(ctx: Context) -> None:
    """A server makes a file system on a volume and writes to it; another one, which gets it next, has what was written.

    Neither may mount anything by a right of its own.
    """
    volume = make_volume(ctx)
    first, second = make_guest(ctx), make_guest(ctx, what="second")
    device = attach(ctx, first, volume)
    make_file_system(first, device)
    first.shell.run(f"sudo umount {PLACE}")
    detach(ctx, first, volume)
    if first.shell.attempt(f"sudo head -c 1 {device}").status == 0:
        raise CheckFailed(f"{device} can be read in {first.server.name}, which has the volume no more.")
    device = attach(ctx, second, volume)
    second.shell.run(f"sudo mkdir -p {PLACE} && sudo mount {device} {PLACE}")
    expect(second.shell.run(f"cat {PLACE}/file"), "kept", "the first server's file in the second")
    second.shell.run(f"sudo umount {PLACE}")


def extend(ctx: Context) -> None:
    """A volume that a server has grows: the server sees its new size at once, and what was written is still there."""
    volume, guest = make_volume(ctx), make_guest(ctx)
    device = attach(ctx, guest, volume)
    make_file_system(guest, device)
    guest.shell.run(f"sudo umount {PLACE}")
    size = f"sudo lsblk --bytes --nodeps --noheadings --output SIZE {device}"
    expect(guest.shell.run(size), str(GIB), "the volume's bytes in the server")
    ctx.say("extending it while the server has it")
    ctx.connection.block_storage.extend_volume(volume, 2)
    wait_until(
        lambda: guest.shell.run(size) == str(2 * GIB),
        ctx.timeouts.active,
        "the volume's new size in the server",
        "Look for the volume's id in /var/log/cinder/cinder-volume.log and in nova-compute's.",
    )
    guest.shell.run(f"sudo mount {device} {PLACE}")
    expect(guest.shell.run(f"cat {PLACE}/file"), "kept", "a file that was written before the volume grew")
    guest.shell.run(f"sudo umount {PLACE}")


def make_volume(ctx: Context) -> Any:
    """Make a volume of 1 GB and wait until it can be attached."""
    block_storage = ctx.connection.block_storage
    with postponed():
        volume = block_storage.create_volume(name=ctx.name("volume"), size=1)
        ctx.stack.callback(delete_volume, ctx.connection, volume.id, ctx.timeouts.terminate)
    ctx.say(f"waiting for {volume.name} to be available")
    return wait_for_volume(ctx, volume.id, "available")


def wait_for_volume(ctx: Context, volume_id: str, status: str) -> Any:
    """Wait until a volume has a status.

    Raises:
        CheckFailed: it went to an error, or the time is over.
    """

    def look() -> Any:
        volume = ctx.connection.block_storage.get_volume(volume_id)
        if volume.status.startswith("error"):
            raise CheckFailed(
                f"Volume {volume.name} went to {volume.status}.",
                "Look for its id in /var/log/cinder/cinder-volume.log and cinder-scheduler.log.",
                volume_id,
            )
        return volume if volume.status == status else None

    return wait_until(
        look,
        ctx.timeouts.active,
        f"volume {volume_id} to be {status}",
        "Look for its id in /var/log/cinder/cinder-volume.log and /var/log/nova/nova-compute.log.",
    )


def attach(ctx: Context, guest: Guest, volume: Any) -> str:
    """Attach a volume; return its device in the server, by the link that names the volume."""
    ctx.say(f"attaching the volume to {guest.server.name}")
    with postponed():
        ctx.connection.compute.create_volume_attachment(guest.server, volume)
        ctx.stack.callback(detach, ctx, guest, volume)
    wait_for_volume(ctx, volume.id, "in-use")
    device = f"/dev/disk/by-id/virtio-{volume.id[:20]}"
    wait_until(
        lambda: guest.shell.attempt(f"test -b {device}").status == 0, ctx.timeouts.active, f"{device} in the server"
    )
    return device


def detach(ctx: Context, guest: Guest, volume: Any) -> None:
    """Detach a volume and wait until others may have it; one that is not attached is fine."""
    ctx.connection.compute.delete_volume_attachment(guest.server, volume, ignore_missing=True)
    wait_for_volume(ctx, volume.id, "available")


def make_file_system(guest: Guest, device: str) -> None:
    """Make a file system on a device, mount it, and write a file."""
    guest.shell.run(f"sudo mkfs.ext4 -q {device} && sudo mkdir -p {PLACE} && sudo mount {device} {PLACE}")
    guest.shell.run(f"echo kept | sudo tee {PLACE}/file > /dev/null")


NEEDS = LOGIN_NEEDS | {Capability.VOLUMES}
VOLUME = Exercise("volume", "A volume keeps what a server wrote to it, for the next one", write_and_read, NEEDS)
EXTEND = Exercise("volume-extend", "A volume grows while a server has it", extend, NEEDS)

# SPDX-License-Identifier: Apache-2.0
"""Volumes: what one server writes another reads, one that grows while it is in use, one that is a root, encryption."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.interrupts import postponed
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.probe import wait_until
from dockstack.verify.resources import (
    Guest,
    boot,
    delete_server,
    delete_volume,
    make_floating_ip,
    make_guest,
    open_shell,
    wait_for_status,
)

GIB = 1 << 30
ROOT_GIB = 2
ENCRYPTED_TYPE = "file-encrypted"
LOOKED_AT = 16 << 20  # bytes of an encrypted volume's file: its header, and the beginning of what is in it
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


def boot_from_volume(ctx: Context) -> None:
    """A server boots from a volume that is made of its image, and a second one from it has what the first wrote.

    The first is rebooted, and deleted: its root outlives both.
    """
    volume = make_volume(ctx, size=ROOT_GIB, image_id=ctx.facts.image_id)
    expect(volume.is_bootable, True, "whether Cinder calls a volume of an image bootable")
    first = make_guest(ctx, root_volume_id=volume.id)
    expect((first.server.image or {}).get("id"), None, "the image of a server whose root is a volume")
    first.shell.run("echo kept > root-file && sync")
    ctx.say("rebooting it")
    ctx.connection.compute.reboot_server(first.server, "HARD")
    wait_for_status(ctx.connection, first.server.id, "ACTIVE", ctx.timeouts.active)
    shell = open_shell(ctx, first.address, first.key)
    expect(shell.run("cat root-file"), "kept", "a file that was written before the reboot")
    ctx.say("deleting it, and booting another server from its volume")
    delete_server(ctx.connection, first.server.id, ctx.timeouts.terminate)
    wait_for_volume(ctx, volume.id, "available")
    server = boot(ctx, what="second", root_volume_id=volume.id, group=first.group)
    floating = make_floating_ip(ctx, server)
    shell = open_shell(ctx, floating.floating_ip_address, first.key)
    expect(shell.run("cat root-file"), "kept", "the first server's file in the second")


def encrypt(ctx: Context) -> None:
    """A server writes to an encrypted volume, and another one, which gets it next, reads that.

    Where this machine has the volume's file, nothing of what was written is in it.
    """
    volume = make_volume(ctx, volume_type=ENCRYPTED_TYPE)
    expect(volume.is_encrypted, True, f"whether Cinder calls a volume of the type {ENCRYPTED_TYPE} encrypted")
    first, second = make_guest(ctx), make_guest(ctx, what="second")
    token = secrets.token_hex(16)
    device = attach(ctx, first, volume)
    first.shell.run(f"echo {token} | sudo dd of={device} conv=fsync status=none")
    for file in Path("/var/lib/cinder/volumes").glob(f"volume-{volume.id}"):
        with file.open("rb") as opened:
            written = opened.read(LOOKED_AT)
        if token.encode() in written or not any(written):
            raise CheckFailed(f"What was written to {volume.name} is in its file as it is, or nothing is there.")
    detach(ctx, first, volume)
    device = attach(ctx, second, volume)
    expect(second.shell.run(f"sudo head -c {len(token)} {device}"), token, "the first server's bytes in the second")


def make_volume(ctx: Context, size: int = 1, **wanted: Any) -> Any:
    """Make a volume of some GB and wait until it can be attached.

    Args:
        ctx: of the exercise.
        size: GB.
        wanted: what else Cinder is asked for.
    """
    block_storage = ctx.connection.block_storage
    with postponed():
        volume = block_storage.create_volume(name=ctx.name("volume"), size=size, **wanted)
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
                "Look for its id in /var/log/cinder/cinder-volume.log.",
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
ROOT = Exercise("boot-volume", "A server boots from a volume, which outlives it", boot_from_volume, NEEDS)
ENCRYPTED = Exercise(
    "volume-encrypted", "A volume is encrypted, and servers read it", encrypt, NEEDS | {Capability.KEY_MANAGER}
)

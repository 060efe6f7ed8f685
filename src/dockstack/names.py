# SPDX-License-Identifier: Apache-2.0
"""Names that two houses must spell alike: labels, prefixes and places by which what one makes is found by the others.

They are part of the contract with operators, who search by them (``docker ps --filter label=org.openstack.nova.uuid``).
"""

from __future__ import annotations

from pathlib import Path

LABEL_PREFIX = "org.openstack.nova."
UUID_LABEL = LABEL_PREFIX + "uuid"
HOST_LABEL = LABEL_PREFIX + "host"
NAME_LABEL = LABEL_PREFIX + "name"
RESCUE_LABEL = LABEL_PREFIX + "rescue"
PROJECT_LABEL = LABEL_PREFIX + "project"
REQUEST_LABEL = LABEL_PREFIX + "request"
"""Which request to the engine made a container: a random word, by which a request finds what it made itself."""
SPARSE_LABEL = LABEL_PREFIX + "sparse"
"""Of an image: its layer has sparse files without their holes, and says where those belong."""
ROOT_LABEL = LABEL_PREFIX + "root"
"""The volume that a server's root file system is on; empty, or not there, where that is the container's own."""
PAYLOAD_LABEL = LABEL_PREFIX + "payload"
"""The digest of what another host had sent, where a container was made of that."""

NAME_PREFIX = "nova-"
"""What the names of containers and network namespaces of servers begin with; the server's uuid follows."""

IMAGE_DOMAIN = "dockstack.local"
"""The registry part of the names that we give images in the engine; nothing answers there, so none is ever pulled."""

SNAPSHOTTER = ["driver-type", "io.containerd.snapshotter.v1"]
"""What an engine says in its ``DriverStatus`` where containerd keeps its images (moby: daemon/containerd)."""

COPIES_DIRECTORY = "dockstack-copies"
"""In the engine's data root: what servers have written, copied for the images that are being made of them."""

NAMESPACES = Path("/run/netns")
"""Where network namespaces are pinned, as iproute2 does it."""

EXTRA_HOSTS = Path("/run/dockstack/hosts")
"""Each further host of this machine (``up --hosts N``) has its /run below it, and a file that pins its mounts."""

VOLUMES_DIRECTORY = Path("/run/dockstack/volumes")
"""Which volumes each server of this host holds, as root has written it down: ``SERVER/VOLUME.json``, root's alone."""

DECRYPTED_DIRECTORY = Path("/run/dockstack/decrypted")
"""Encrypted volumes that are open on this host, a directory each, in which ``plain`` is the decrypted one; root's."""
HALF_LABEL = b"dockstack-half"
"""What ext4's label says of a volume that is to become a root file system and is not filled yet (``editor.py``)."""

REVOKED_BYTES, MOUNTED_BYTES = 512, 1024
"""What is left of a volume's loop device that is taken away, and of one that the mount broker has mounted otherwise."""

MOUNT_SOCKET = Path("/run/dockstack/mounts/seccomp.sock")
"""Where runtimes leave what a server's mount(2) is answered by; it is there where a host has a mount broker."""

TRAIT = "CUSTOM_DOCKER"
"""Which trait all hosts of the driver have in Placement."""

AGGREGATE_PROPERTIES = {"img_hv_type": "docker", f"trait:{TRAIT}": "required"}
"""What an aggregate of such hosts is made with. A flavor asks for the first; where the scheduler isolates aggregates,
what does not ask for the second cannot come there."""

NSENTER = "/usr/bin/nsenter"


def namespace_name(server_uuid: str) -> str:
    """Return the name of a server's network namespace below ``NAMESPACES``; it outlives the container."""
    return NAME_PREFIX + server_uuid


def host_namespace(key: str) -> str:
    """Return the name of a further host's network namespace below ``NAMESPACES``.

    Args:
        key: the host's key, such as "host2".
    """
    return f"dockstack-{key}"


def enter_host(key: str) -> tuple[str, ...]:
    """Return the words that run a command as a process of a further host of this machine.

    Args:
        key: the host's key, such as "host2".
    """
    return (NSENTER, f"--net={NAMESPACES / host_namespace(key)}", f"--mount={EXTRA_HOSTS / key}.mnt", "--")


def volume_link(volume_uuid: str) -> str:
    """Return a volume's name below a server's /dev/disk/by-id, as virtual machines have it there."""
    return f"virtio-{volume_serial(volume_uuid)}"


def volume_serial(volume_uuid: str) -> str:
    """Return what a server sees as the serial number of a volume: as much of its uuid as virtio carries."""
    return volume_uuid[:20]

# SPDX-License-Identifier: Apache-2.0
"""What an image in Glance says of the manifest that it stands for; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.oci.documents import Digest, ImageRejected, Platform, json_object

if TYPE_CHECKING:
    from dockstack.oci.distribution.manifests import Pushed

_MAX_NAME = 255
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}  # the specification's, Nova's


def image_name(repository: str, tag: str, digest: Digest) -> str:
    """Return the name of an image: NAME for the tag "latest", NAME-TAG for others, NAME@DIGEST without any.

    There is no colon in it: Glance takes what stands before one for an operator when it is asked for a name, and so
    the usual clients find no image that has one.
    """
    if tag == "latest":
        return repository[-_MAX_NAME:]
    suffix = f"-{tag}" if tag else f"@{digest.hex[:12]}"
    return repository[-(_MAX_NAME - len(suffix)) :] + suffix


def properties(pushed: Pushed, configuration: bytes, repository: str, tag: str, namespace: str) -> dict[str, Any]:
    """Return what Glance is told of an image.

    Args:
        pushed: its manifest or index.
        configuration: the bytes of a single image's configuration, else none.
        repository: the repository's name within its project.
        tag: "" if it has none; then lists do not show it, nor what is no image for servers.
        namespace: the project, as names of repositories begin with it.
    """
    said: dict[str, Any] = {
        "name": image_name(repository, tag, pushed.digest),
        "container_format": "docker",
        "disk_format": "raw",
        "os_hidden": not tag or not pushed.bootable,
        "oci_digest": str(pushed.digest),
        "oci_media_type": pushed.media_type,
        "oci_repository": f"{namespace}/{repository}",
    }
    if tag:
        said["oci_tag"] = tag
    if pushed.bootable:
        said |= {"img_hv_type": "docker", "hw_vm_mode": "exe"}
    if configuration:
        said["oci_config_digest"] = str(pushed.blobs[0].digest)
        machine = _machine(configuration)
        if machine:
            said["hw_architecture"] = machine
    return said


def _machine(configuration: bytes) -> str:
    """Return for which machine an image is, as Nova spells it; "" if it does not say."""
    try:
        architecture = Platform.of(json_object(configuration, "configuration")).architecture
    except ImageRejected:
        return ""
    known = _MACHINES.get(architecture, architecture)
    return known if known in _NOVA else ""


# nova.objects.fields.Architecture; Nova refuses a server whose image names another
_NOVA = frozenset({"x86_64", "aarch64", "i686", "armv7l", "ppc64le", "s390x", "riscv64", "mips64"})

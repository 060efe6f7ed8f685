# SPDX-License-Identifier: Apache-2.0
"""Images from tenants: hostile ones fail with a clear fault and leave no trace; good ones are loaded once."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import time

import node
import pytest

from dockstack.verify.model import PREFIX
from dockstack.verify.resources import boot, fault_of, request_server, wait_for_status

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900), pytest.mark.usefixtures("on_this_machine")]

CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers"}}


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def docker_save(layers, entries=1, tags=None, diff_ids=None):
    config = json.dumps(
        CONFIG | {"rootfs": {"type": "layers", "diff_ids": diff_ids or ["sha256:" + "0" * 64]}}
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": layers}] * entries
    return tar_of(
        {"config.json": config, "layer.tar": tar_of({"bin/sh": b"#!"}), "manifest.json": json.dumps(manifest).encode()}
    )


HOSTILE = {
    "empty-file": b"",
    "no-tar": secrets.token_bytes(4096),
    "truncated": docker_save(["layer.tar"])[:3000],
    "traversal": docker_save(["../../../../etc/passwd"]),
    "wrong-digest": docker_save(["layer.tar"], tags=["dockstack-base:latest"]),
    "two-images": docker_save(["layer.tar"], entries=2),
    "missing-layer": docker_save(["absent.tar"]),
}


def upload(ctx, data):
    images = ctx.connection.image
    image = images.create_image(
        name=f"{PREFIX}{ctx.exercise}-{ctx.token}", container_format="docker", disk_format="raw", allow_duplicates=True
    )
    ctx.stack.callback(images.delete_image, image.id, ignore_missing=True)
    # The SDK's own upload leaves out an empty file.
    answer = images.put(f"/images/{image.id}/file", data=data, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 204, answer.text
    return image


def engine_images():
    return {(image["Id"], *sorted(image["RepoTags"] or ())) for image in node.engine().images(all=True)}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_is_refused_with_a_reason(ctx, kind):
    before = engine_images()
    image = upload(ctx, HOSTILE[kind])
    server = request_server(ctx, image_id=image.id)
    failed = wait_for_status(ctx.connection, server.id, "ERROR", ctx.timeouts.active)
    message = fault_of(ctx.connection, failed)["message"]
    print(message)
    assert "image" in message.lower()
    assert "Traceback" not in message
    assert "Exceeded maximum number of retries" not in message
    assert engine_images() == before
    node.delete_and_find_nothing(ctx.connection, server.id, ctx.timeouts)


def test_five_servers_of_a_new_image_load_it_once(ctx):
    api = node.engine()
    image = upload(ctx, variant_of(ctx, api))
    since = int(time.time()) - 1
    servers = [request_server(ctx, what=f"server{number}", image_id=image.id) for number in range(5)]
    for server in servers:
        wait_for_status(ctx.connection, server.id, "ACTIVE", ctx.timeouts.active * 2)
    events = api.events(since=since, until=int(time.time()) + 1, filters={"type": "image"}, decode=True)
    loads = [event for event in events if event["Action"] in {"load", "import", "pull"}]
    assert len(loads) == 1, loads
    assert len({node.container_of(server.id)["Image"] for server in servers}) == 1


def variant_of(ctx, api):
    """The base image with one more label: an image that the engine has not seen, in docker-save's format."""
    base = node.container_of(boot(ctx, what="base").id)["Image"]
    draft = api.create_container(base)
    try:
        made = api.commit(draft, changes=[f"LABEL dockstack.test={secrets.token_hex(8)}"])["Id"]
    finally:
        api.remove_container(draft)
    try:
        return b"".join(api.get_image(made))
    finally:
        api.remove_image(made, force=True)


def test_what_properties_mean_can_be_looked_up(connection):
    namespaces = {each.namespace for each in connection.image.metadef_namespaces()}
    assert "OS::Compute::VirtCPUTopology" in namespaces
    assert any(connection.image.metadef_resource_types())

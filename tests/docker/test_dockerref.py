# SPDX-License-Identifier: Apache-2.0
"""Images from the distribution's own registry, by our client, into a real engine."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
import uuid
from types import SimpleNamespace

import pytest
from private_engine import wait_for
from test_images import HERE

from dockstack.compute import conf
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.images.registries import Registries
from dockstack.compute.model import Image, Source
from dockstack.oci.streams import ImageLimits
from held_ports import hold_port, port_of
from image_archives import sample_layer
from small_registry import SmallRegistry

pytestmark = pytest.mark.skipif(shutil.which("docker-registry") is None, reason="there is no docker-registry here")


@pytest.fixture
def name(tmp_path):
    """Where the registry is."""
    held = hold_port()
    name = f"127.0.0.1:{port_of(held)}"
    settings = tmp_path / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    settings.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": name, "secret": "x"}}))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(name), "the registry")
        yield name
    finally:
        process.terminate()
        process.wait()
        held.close()


def answers(name: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{name}/v2/", timeout=60).close()
    except OSError:
        return False
    return True


def put(url: str, data: bytes, method: str = "PUT", kind: str = "application/octet-stream") -> str:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)  # noqa: S310 - ours
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - ours
        return answer.headers.get("Location") or ""


def push(name: str, image: SmallRegistry, tag: str) -> None:
    """Push what a registry in memory has, as a client does."""
    for digest, data in image.blobs.items():
        place = put(f"http://{name}/v2/team/app/blobs/uploads/", b"", "POST")
        put(f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
    document = json.loads(image.manifests[tag])
    put(f"http://{name}/v2/team/app/manifests/{tag}", image.manifests[tag], kind=document["mediaType"])


def test_a_pushed_image_is_pinned_pulled_and_loaded(engine, name, tmp_path):
    image = SmallRegistry()
    digest = image.image([sample_layer(uuid.uuid4().hex)], "1", architecture=HERE, Cmd=["/bin/pushed"])
    push(name, image, "1")
    options = {option.dest: option.default for option in conf.OPTIONS}
    options |= {"allowed_registries": [f"http://{name}"], "state_directory": str(tmp_path)}
    registries = Registries(SimpleNamespace(**options))
    store = ImageStore(engine, list, tmp_path / "workspace", ImageLimits(), registries=registries)
    store.sweep()
    found = registries.resolve(registries.parse(f"{name}/team/app:1"), None)
    assert str(found) == digest

    image_id = str(uuid.uuid4())
    source = Source(name, "team/app", str(found))
    pointer = Image(image_id, "pointer", container_format="dockerref", source=source)
    loaded = store.ensure(pointer, 0)
    assert loaded.config.command == ("/bin/pushed",)
    assert engine.image(loaded.engine_id).architecture == HERE
    assert store.ensure(pointer, 0).engine_id == loaded.engine_id
    store.remove(image_id)
    assert engine.image(loaded.engine_id) is None

# SPDX-License-Identifier: Apache-2.0
"""What a reference means for a server: what its tag was at first, and nothing for whom the registry refuses it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from dockstack.compute import conf
from dockstack.compute.flows import references
from dockstack.compute.images.registries import Registries
from dockstack.compute.model import Image
from dockstack.oci.documents import ImageRejected
from dockstack.oci.remote.addresses import RegistryError
from image_archives import sample_layer
from small_registry import serving

pytestmark = pytest.mark.unit

IMAGE = Image("one", "one", container_format="dockerref", size=40)


@dataclass
class Asking:
    """A user, a server's record, and an image's data."""

    text: str | None
    token: str | None = "keystone"
    pins: dict[str, str] = field(default_factory=dict)

    def require_trust(self, image: Image) -> Image:
        return image

    def read(self, image: Image) -> str | None:
        return self.text

    def pinned(self, image_id: str) -> str | None:
        return self.pins.get(image_id)

    def pin(self, image_id: str, digest: str) -> None:
        self.pins[image_id] = digest


@pytest.fixture
def registry():
    with serving() as registry:
        registry.image([sample_layer("one")], "latest")
        yield registry


def host(registry, kind="allowed_registries"):
    options = {option.dest: option.default for option in conf.OPTIONS}
    entry = f"http://{registry.name}"
    options[kind] = [entry] if kind == "allowed_registries" else entry
    return SimpleNamespace(images=SimpleNamespace(registries=Registries(SimpleNamespace(**options))))


def test_a_tag_is_looked_up_once_a_server(registry):
    asking = Asking(f"{registry.name}/team/app")
    found = references.find(host(registry), IMAGE, asking)
    assert found.source.digest == asking.pins["one"]
    registry.image([sample_layer("two")], "latest")
    count = len(registry.requests)
    assert references.find(host(registry), IMAGE, asking) == found
    assert len(registry.requests) == count, "where everybody may read, nobody is asked again"
    assert references.find(host(registry), IMAGE, Asking(asking.text)).source.digest != found.source.digest


def test_a_digest_in_the_reference_stands_above_all(registry):
    digest = "sha256:" + "1" * 64
    asking = Asking(f"{registry.name}/team/app@{digest}", pins={"one": "sha256:" + "2" * 64})
    assert references.find(host(registry), IMAGE, asking).source.digest == digest
    assert registry.requests == []


def test_the_cloud_s_own_registry_is_asked_as_the_user_each_time(registry):
    registry.users = {"token": "keystone"}
    own = host(registry, "cloud_registry")
    asking = Asking(f"{registry.name}/team/app")
    references.find(own, IMAGE, asking)
    for token in ("another", None):
        with pytest.raises(RegistryError, match="does not let us read"):
            references.find(own, IMAGE, replace(asking, token=token))


def test_an_archive_is_left_alone(registry):
    assert references.find(host(registry), IMAGE, Asking(None)) is IMAGE


@pytest.mark.parametrize("policy", ["never", "ALWAYS", ""])
def test_a_policy_that_is_none(registry, policy):
    image = replace(IMAGE, properties={"docker_pull_policy": policy})
    with pytest.raises(ImageRejected, match="docker_pull_policy is"):
        references.find(host(registry), image, Asking(f"{registry.name}/team/app"))


def test_the_token_is_in_no_representation(registry):
    assert "keystone" not in repr(references.find(host(registry), IMAGE, Asking(f"{registry.name}/team/app")))

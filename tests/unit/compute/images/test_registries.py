# SPDX-License-Identifier: Apache-2.0
"""Registries as a host's options allow them, and images that come from there."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dockstack.compute import conf
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.images.registries import CannotPull, Registries
from dockstack.compute.model import Image, Source
from dockstack.oci.documents import ImageRejected
from dockstack.oci.remote.addresses import RegistryError
from dockstack.oci.remote.cosign import NotSigned
from dockstack.oci.streams import ImageLimits
from fake_images import FakeEngine
from image_archives import config, sample_layer, sha256
from signed_images import pem, sign
from small_registry import serving

pytestmark = pytest.mark.unit

LAYERS = [sample_layer("one")]


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


def configured(**values) -> Registries:
    options = {option.dest: option.default for option in conf.OPTIONS}
    return Registries(SimpleNamespace(**options | {"registry_cache_mb": 0} | values))


def listed(registry, **more) -> Registries:
    return configured(allowed_registries=[f"http://{registry.name}"], **more)


def pointing(registry, digest, **more) -> Image:
    source = Source(registry.name, "team/app", digest, **more)
    return Image("one", "one", checksum="ab" * 32, container_format="dockerref", source=source)


class TestAllowed:
    def test_nobody_is_by_default(self):
        with pytest.raises(CannotPull, match=r"does not pull from 'docker\.io', but from: none"):
            configured().parse("nginx")

    def test_what_is_listed_is_with_its_port(self):
        registries = configured(allowed_registries=["a.example", "b.example:5000"], cloud_registry="own.example:5005")
        for text in ("a.example/x", "A.example/x", "b.example:5000/x/y:1", "own.example:5005/x"):
            registries.parse(text)
        for text in ("b.example/x", "a.example:444/x", "sub.a.example/x", "docker.io/x"):
            with pytest.raises(CannotPull, match=r"a\.example, b\.example:5000, own\.example:5005"):
                registries.parse(text)
        assert registries.is_own("own.example:5005")
        assert not registries.is_own("a.example")

    def test_an_entry_that_is_none_is_told_at_once(self):
        with pytest.raises(RegistryError):
            configured(allowed_registries=["ftp://x"])


class TestTags:
    def test_each_new_server_asks_unless_it_is_told_not_to(self, registry):
        registries = listed(registry)
        reference = registries.parse(f"{registry.name}/team/app")
        first = registry.image(LAYERS, "latest")
        assert str(registries.resolve(reference, None, "missing")) == first
        second = registry.image([sample_layer("two")], "latest")
        assert str(registries.resolve(reference, None, "missing")) == first
        assert str(registries.resolve(reference, None)) == second
        assert str(registries.resolve(reference, None, "missing")) == second


class TestCredentials:
    def secrets(self, tmp_path, registry, text="robot:secret", mode=0o600):
        path = tmp_path / "auth.json"
        path.write_text(json.dumps({"auths": {registry.name: {"auth": base64.b64encode(text.encode()).decode()}}}))
        path.chmod(mode)
        return str(path)

    def resolve(self, registry, **options):
        registries = listed(registry, **options)
        return str(registries.resolve(registries.parse(f"{registry.name}/team/app"), "keystone"))

    def test_the_host_s_are_used(self, registry, tmp_path):
        registry.users = {"robot": "secret"}
        digest = registry.image(LAYERS, "latest")
        assert self.resolve(registry, registry_credentials=self.secrets(tmp_path, registry)) == digest
        with pytest.raises(RegistryError, match="does not let us read"):
            self.resolve(registry)

    def test_a_user_s_token_goes_to_the_cloud_s_own_registry_only(self, registry):
        registry.users = {"token": "keystone"}
        digest = registry.image(LAYERS, "latest")
        assert self.resolve(registry, cloud_registry=f"http://{registry.name}") == digest
        with pytest.raises(RegistryError, match="does not let us read"):
            self.resolve(registry)

    @pytest.mark.parametrize("mode", [0o604, 0o622, 0o660])
    def test_a_file_that_others_can_use_is_not_used(self, registry, tmp_path, mode):
        registry.image(LAYERS, "latest")
        with pytest.raises(RegistryError, match="others may read or write"):
            self.resolve(registry, registry_credentials=self.secrets(tmp_path, registry, mode=mode))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
    def test_nor_one_of_somebody_else(self, registry, tmp_path):
        path = self.secrets(tmp_path, registry)
        os.chown(path, 12345, -1)
        with pytest.raises(RegistryError, match="others may read or write"):
            self.resolve(registry, registry_credentials=path)

    @pytest.mark.parametrize("text", ["", "[]", '{"auths": []}', '{"auths": {"x": 3}}', None])
    def test_a_file_that_is_none(self, registry, tmp_path, text):
        path = tmp_path / "auth.json"
        if text is not None:
            path.write_text(text)
            path.chmod(0o600)
        with pytest.raises(RegistryError, match="credentials for registries cannot be used"):
            self.resolve(registry, registry_credentials=str(path))


class TestStore:
    @pytest.fixture
    def engine(self):
        return FakeEngine()

    def store(self, engine, registries, tmp_path) -> ImageStore:
        limits = ImageLimits(max_unpacked_bytes=1 << 20)
        store = ImageStore(engine, list, tmp_path / "w", limits, architecture="x86_64", registries=registries)
        store.sweep()
        return store

    def test_an_image_is_fetched_once_and_found_again(self, registry, engine, tmp_path):
        image = pointing(registry, registry.image(LAYERS))
        store = self.store(engine, listed(registry), tmp_path)
        loaded = store.ensure(image, 0)
        assert loaded.engine_id == f"sha256:{sha256(config(LAYERS))}"
        count = len(registry.requests)
        assert store.ensure(image, 0).engine_id == loaded.engine_id
        assert len(registry.requests) == count
        store.remove("one")
        assert engine.tags == {}

    def test_the_same_digest_of_another_repository_is_asked_for_there(self, registry, engine, tmp_path):
        image = pointing(registry, registry.image(LAYERS))
        store = self.store(engine, listed(registry), tmp_path)
        store.ensure(image, 0)
        with pytest.raises(ImageRejected, match="has no image"):
            store.ensure(replace(image, source=replace(image.source, repository="other/app")), 0)

    def test_many_servers_share_one_pull(self, registry, engine, tmp_path):
        image = pointing(registry, registry.image(LAYERS))
        store = self.store(engine, listed(registry), tmp_path)
        with ThreadPoolExecutor(5) as pool:
            assert len({loaded.engine_id for loaded in pool.map(lambda _: store.ensure(image, 0), range(5))}) == 1
        assert registry.count("blobs") == 2

    def test_what_is_larger_than_this_host_takes_is_not_downloaded(self, registry, engine, tmp_path):
        layer = os.urandom(3 << 20)
        image = pointing(registry, registry.image([layer]))
        with pytest.raises(ImageRejected, match="MiB to download"):
            self.store(engine, listed(registry), tmp_path).ensure(image, 0)
        assert registry.count("blobs") == 0

    def test_what_only_refers_is_never_the_same_for_another_host(self, registry, engine, tmp_path):
        image = pointing(registry, registry.image(LAYERS))
        store = self.store(engine, listed(registry), tmp_path)
        loaded = store.ensure(image, 0)
        assert not store.matches(image, loaded.engine_id)

    def test_signatures(self, registry, engine, tmp_path):
        key = ec.generate_private_key(ec.SECP256R1())
        path = tmp_path / "cosign.pub"
        path.write_bytes(pem(key))
        image = pointing(registry, registry.image(LAYERS))
        self.store(engine, listed(registry), tmp_path).ensure(image, 0)

        strict = self.store(engine, listed(registry, signature_keys=[str(path)]), tmp_path)
        with pytest.raises(NotSigned):
            strict.ensure(image, 0)
        sign(registry, image.source.digest, key)
        strict.ensure(image, 0)

        unknown = self.store(
            FakeEngine(), listed(registry, signature_keys=["elsewhere.example=/nowhere.pub"]), tmp_path
        )
        with pytest.raises(CannotPull, match="does not pull from"):
            unknown.ensure(image, 0)
        for prefix, counts in (
            (registry.name, True),
            (f"HTTP://{registry.name}/", True),
            (f"{registry.name}/te", False),
        ):
            entry = f"{prefix}=/nowhere.pub"
            store = self.store(FakeEngine(), listed(registry, signature_keys=[entry]), tmp_path)
            if counts:
                with pytest.raises(CannotPull, match="keys for images' signatures"):
                    store.ensure(image, 0)
            else:
                store.ensure(image, 0)

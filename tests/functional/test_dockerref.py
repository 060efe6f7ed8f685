# SPDX-License-Identifier: Apache-2.0
"""Servers from images that only point to a registry, and what Nova's signatures are worth, through Nova's real code."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
from types import SimpleNamespace

import pytest
from castellan.common.objects.x_509 import X509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from nova import context as nova_context
from nova.image import glance as nova_glance
from nova_case import IMAGE, ServersCase
from static_keys import BACKEND, StaticKeyManager

from dockstack.compute.flows import references as flow
from dockstack.compute.nova_api import glance, references
from fake_host import image_archive
from image_archives import sample_layer
from small_registry import serving

pytestmark = pytest.mark.functional

REF = "5e1f7ad6-2a5c-4d3e-9f6e-000000000010"
OTHER = "5e1f7ad6-2a5c-4d3e-9f6e-000000000011"
CERTIFICATE = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000ce"


class DockerrefCase(ServersCase):
    def setUp(self):
        self.exits = contextlib.ExitStack()
        self.registry = self.exits.enter_context(serving())
        super().setUp()
        self.addCleanup(self.exits.close)
        self.first = self.registry.image([sample_layer("one")], "latest", Cmd=["/bin/one"])

    def options(self):
        """What the driver reads when it starts."""
        return {"allowed_registries": [f"http://{self.registry.name}"]}

    def _start_compute(self, host, **more):
        self.flags(group="docker", **self.options())
        return super()._start_compute(host, **more)

    def point(self, image_id=REF, text=None, container_format="dockerref", **properties):
        text = f"{self.registry.name}/team/app:latest\n" if text is None else text
        self.images.add(image_id, text.encode(), properties, container_format)

    def fault(self, image=REF):
        return self.boot(image, expected="ERROR")["fault"]["message"]

    def command(self, server):
        return self.world.specs[self.container(server).name].command

    def move_tag(self):
        return self.registry.image([sample_layer("two")], "latest", Cmd=["/bin/two"])


class TestBooting(DockerrefCase):
    def test_the_image_is_the_registry_s(self):
        self.point()
        server = self.boot(REF)
        assert self.command(server) == ("/bin/one",)
        assert self.instance(server).system_metadata[references.PIN] == f"{REF} {self.first}"

    def test_every_way_to_say_it(self):
        name = f"{self.registry.name}/team/app"
        ways = (
            {"text": f"{name}@{self.first}", "container_format": "docker"},
            {"text": "", "container_format": "docker", "docker_ref": f"{name}:latest"},
            {"text": "", "docker_ref": f"{name}@{self.first}"},
        )
        for number, way in enumerate(ways):
            image_id = f"{REF[:-1]}{number + 2}"
            self.point(image_id, **way)
            self.images.glance.images[image_id]["properties"]["os_hash_value"] = f"{number}" * 64
            fetched = self.registry.count("blobs")
            assert self.command(self.boot(image_id, networks="none")) == ("/bin/one",)
            assert self.registry.count("blobs") == (2 if number == 0 else fetched), "the engine has it"

    def test_faults_say_what_is_wrong(self):
        cases = {
            "no image reference": {"text": "two words"},
            "names no image in a registry": {"text": ""},
            "does not pull from 'elsewhere.example'": {"text": "elsewhere.example/app"},
            "has no image 'gone'": {"text": f"{self.registry.name}/team/app:gone"},
            "not a platform": {"docker_platform": "plan9/mips"},
        }
        for number, (message, image) in enumerate(cases.items()):
            image_id = f"{REF[:-1]}{number + 2}"
            self.point(image_id, **image)
            assert message in self.fault(image_id), message

    def test_a_server_is_made_of_the_same_again_wherever_that_is(self):
        self.point()
        server = self.boot(REF)
        self.move_tag()
        self._rebuild_server(server, REF)
        assert self.command(server) == ("/bin/one",)

        self.world.containers.clear()  # on another host, as in an evacuation
        self.world.images.clear()
        instance = self.instance(server)
        self.driver().spawn(nova_context.get_admin_context(), instance, None, [], None, {}, instance.get_network_info())
        assert self.command(server) == ("/bin/one",)

        self.api.delete_server(server["id"])
        self._wait_until_deleted(server)
        assert self.command(self.boot(REF)) == ("/bin/two",), "a new server gets what the tag means now"

    def test_another_image_is_pinned_anew_and_an_archive_is_not(self):
        self.point()
        self.point(OTHER, f"{self.registry.name}/team/app:latest ")
        server = self.boot(REF)
        second = self.move_tag()
        self._rebuild_server(server, IMAGE)
        self._rebuild_server(server, REF)
        assert self.command(server) == ("/bin/one",)
        self._rebuild_server(server, OTHER)
        assert self.command(server) == ("/bin/two",)
        assert self.instance(server).system_metadata[references.PIN] == f"{OTHER} {second}"

    def test_a_snapshot_of_it_is_an_archive_and_boots(self):
        self.point(text="", docker_ref=f"{self.registry.name}/team/app", container_format="docker")
        server = self.boot(REF)
        self._shelve_server(server, expected_state="SHELVED_OFFLOADED")
        self._unshelve_server(server)
        assert self.command(server) == ("/bin/one",)
        assert self.registry.count("manifests/latest") == 1

    def test_it_is_fetched_ahead(self):
        self.point()
        context = nova_context.get_admin_context()
        assert self.driver().cache_image(context, REF)
        assert not self.driver().cache_image(context, REF)
        fetched = self.registry.count("blobs")
        self.boot(REF)
        assert self.registry.count("blobs") == fetched


class TestTheCloudsOwnRegistry(DockerrefCase):
    def options(self):
        return {"cloud_registry": f"http://{self.registry.name}"}

    def setUp(self):
        super().setUp()
        self.point()

    def locate(self, token="keystone"):  # noqa: S107 - as the registry knows it
        context = nova_context.RequestContext("user", "project", auth_token=token)
        with glance.reading_as(context):
            asking = references.Asking(context)
            image = glance.read_image(context, REF)
            return flow.find(self.driver()._host, image, asking)

    def test_it_is_read_as_the_user(self):
        self.registry.users = {"token": "keystone"}
        found = self.locate()
        assert found.source.digest == self.first
        self.driver()._host.images.ensure(found, 0)

    def test_and_by_nobody_who_may_not_though_the_host_has_it(self):
        self.registry.users = {"token": "keystone"}
        pinned = f"{self.registry.name}/team/app@{self.first}"
        self.driver()._host.images.ensure(self.locate(), 0)
        self.images.data[REF] = pinned.encode()
        with pytest.raises(Exception, match="does not let us read"):
            self.locate(token="another")


class Signer:
    """A key with its certificate, as Barbican has it."""

    def __init__(self):
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
        now = dt.datetime.now(dt.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )

    def kept(self):
        """Return what a key manager has of it."""
        return X509(self.certificate.public_bytes(serialization.Encoding.DER))

    def properties(self, data: bytes) -> dict[str, str]:
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
        signature = self.key.sign(data, scheme, hashes.SHA256())
        return {
            "img_signature": base64.b64encode(signature).decode(),
            "img_signature_hash_method": "SHA-256",
            "img_signature_key_type": "RSA-PSS",
            "img_signature_certificate_uuid": CERTIFICATE,
        }


class TestSignatures(DockerrefCase):
    """Glance's client is Nova's own here, with its verification, over the images of the fixture."""

    def setUp(self):
        super().setUp()
        self.signer = Signer()
        StaticKeyManager.held = {CERTIFICATE: self.signer.kept()}
        self.flags(backend=BACKEND, group="key_manager")
        self.images.glance.download = self.download
        self.flags(verify_glance_signatures=True, group="glance")

    def download(self, context, image_id, data=None, dst_path=None, trusted_certs=None):
        chunks = _Chunks(self.images.data[image_id])
        client = SimpleNamespace(call=lambda *_arguments, **_named: chunks)
        service = nova_glance.GlanceImageServiceV2(client)
        service.show = self.images.glance.show
        return service.download(context, image_id, data, dst_path, trusted_certs)

    def sign(self, image_id, data, container_format="docker", signed=None, **more):
        properties = self.signer.properties(data if signed is None else signed) | more
        self.images.add(image_id, data, properties | {"os_hash_value": image_id[-2:] * 32}, container_format)

    def test_what_is_signed_boots(self):
        self.sign(OTHER, image_archive(Cmd=["/bin/signed"]))
        self.sign(REF, f"{self.registry.name}/team/app@{self.first}".encode(), "dockerref")
        assert self.command(self.boot(OTHER)) == ("/bin/signed",)
        assert self.command(self.boot(REF, networks="none")) == ("/bin/one",)

    def test_what_is_not_does_not(self):
        self.sign(OTHER, image_archive(), signed=b"other")
        self.sign(REF, f"{self.registry.name}/team/app:latest".encode(), "dockerref", signed=b"other")
        assert "its signature" in self.fault(OTHER)
        assert "its signature" in self.fault(REF)
        assert "Missing property" in self.fault(IMAGE)
        assert self.registry.requests == []

    def test_another_key_or_none_that_the_key_manager_has_is_none(self):
        self.sign(OTHER, image_archive())
        StaticKeyManager.held = {CERTIFICATE: Signer().kept()}
        assert "its signature" in self.fault(OTHER)
        StaticKeyManager.held = {}
        assert f"Certificate not found with ID: {CERTIFICATE}" in self.fault(OTHER)

    def test_a_property_that_nobody_can_sign_is_no_reference_then(self):
        self.sign(REF, b"", "dockerref", docker_ref=f"{self.registry.name}/team/app")
        assert "nobody can sign" in self.fault()

    def test_an_image_that_came_unverified_is_not_taken_for_one_that_did(self):
        data = image_archive(Cmd=["/bin/x"])
        self.sign(OTHER, data, signed=b"other")
        self.flags(verify_glance_signatures=False, group="glance")
        self.boot(OTHER)
        self.flags(verify_glance_signatures=True, group="glance")
        request = self._build_server(image_uuid=OTHER, flavor_id=self.flavor, networks="none")
        server = self._wait_for_state_change(self.api.post_server({"server": request}), "ERROR")
        assert "its signature" in server["fault"]["message"]


@dataclasses.dataclass
class _Chunks:
    data: bytes
    wrapped: bool = True

    def __iter__(self):
        return iter([self.data])

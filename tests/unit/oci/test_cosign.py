# SPDX-License-Identifier: Apache-2.0
"""Signatures as cosign writes them: one by a key that counts, for this very image, or none."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dockstack.oci.documents import Digest
from dockstack.oci.remote import cosign
from dockstack.oci.remote.addresses import Allowed, Origin
from dockstack.oci.remote.repository import Repository
from dockstack.oci.remote.session import Session
from image_archives import sample_layer
from signed_images import pem, sign
from small_registry import serving

pytestmark = pytest.mark.unit

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


def verify(registry, digest, *keys):
    origin = Origin.of(f"http://{registry.name}")
    repository = Repository(Session(Allowed(frozenset({origin})), 30), origin, "team/app")
    cosign.verify(repository, Digest.parse(digest), [cosign.load_key(pem(key)) for key in keys])


def test_what_one_of_the_keys_has_signed_passes(registry):
    digest = registry.image([sample_layer()])
    sign(registry, digest, KEY)
    verify(registry, digest, KEY)
    verify(registry, digest, OTHER, KEY)
    with pytest.raises(cosign.NotSigned, match="no key that counts"):
        verify(registry, digest, OTHER)


def test_so_does_one_signature_of_several(registry):
    digest = registry.image([sample_layer()])
    sign(registry, digest, OTHER, KEY)
    verify(registry, digest, KEY)


def test_what_nobody_has_signed_is_refused(registry):
    with pytest.raises(cosign.NotSigned, match="has no signature"):
        verify(registry, registry.image([sample_layer()]), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": f"sha256:{'0' * 64}"},
        {"kind": "a birthday card"},
        {"payload": b"[]"},
        {"payload": b'{"critical": []}'},
        {"payload": b'{"critical": {"type": "cosign container image signature", "image": 3}}'},
    ],
)
def test_a_good_signature_of_something_else_is_none(registry, change):
    digest = registry.image([sample_layer()])
    sign(registry, digest, KEY, **change)
    with pytest.raises(cosign.ImageRejected):
        verify(registry, digest, KEY)


@pytest.mark.parametrize("signature", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_signature_that_is_none(registry, signature):
    digest = registry.image([sample_layer()])
    sign(registry, digest, KEY, signature=signature)
    with pytest.raises(cosign.NotSigned):
        verify(registry, digest, KEY)


def test_a_payload_that_was_changed(registry):
    digest = registry.image([sample_layer()])
    sign(registry, digest, KEY)
    for name, data in registry.blobs.items():
        registry.blobs[name] = data.replace(b"cosign container", b"forged container")
    with pytest.raises(cosign.ImageRejected):
        verify(registry, digest, KEY)


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
)
def test_other_kinds_of_keys_are_none_of_ours(key):
    with pytest.raises(ValueError, match="P-256"):
        cosign.load_key(pem(key))
    with pytest.raises(ValueError):
        cosign.load_key(b"-----BEGIN NOTHING-----")


def test_the_signature_is_over_the_payload_as_it_is_stored(registry):
    """As cosign's specification has it; checked without our own code."""
    digest = registry.image([sample_layer()])
    sign(registry, digest, KEY)
    manifest = json.loads(registry.manifests[f"sha256-{digest[7:]}.sig"])
    [layer] = manifest["layers"]
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    public = serialization.load_pem_public_key(pem(KEY))
    public.verify(signature, registry.blobs[layer["digest"]], ec.ECDSA(hashes.SHA256()))

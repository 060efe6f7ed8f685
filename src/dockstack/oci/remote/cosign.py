# SPDX-License-Identifier: Apache-2.0
"""Signatures beside images in registries, as ``cosign sign --key`` writes them, verified with public keys alone.

Nobody else is asked, no log, no authority: who holds the key decides. Source: cosign's specifications/SIGNATURE_SPEC.md
("simple signing"): the signatures of ``sha256:HEX`` are the layers of the manifest with the tag ``sha256-HEX.sig``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from dockstack.oci.documents import Descriptor, Digest, ImageRejected, json_object, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.oci.remote.repository import Repository

PublicKey = ec.EllipticCurvePublicKey
_PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"
_MAX_PAYLOAD = 64 << 10
_MAX_SIGNATURES = 32


class NotSigned(ImageRejected):
    """No signature by a key that counts here."""


def load_key(pem: bytes) -> PublicKey:
    """Read a public key, as ``cosign generate-key-pair`` writes it.

    Raises:
        ValueError: it is none on the curve P-256.
    """
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("it is no ECDSA key on the curve P-256")  # noqa: TRY004 - the file's content is wrong
    return key


def verify(repository: Repository, digest: Digest, keys: Sequence[PublicKey]) -> None:
    """Require that one of the keys has signed a manifest or an index.

    Raises:
        NotSigned: none has.
        RegistryError: the registry does not say.
    """
    raw = repository.find_manifest(f"{digest.algorithm}-{digest.hex}.sig")
    if raw is None:
        raise _not_signed(digest, "it has no signature")
    listed = json_object(raw, "signatures").get("layers")
    layers = listed if isinstance(listed, list) else []
    for layer in layers[:_MAX_SIGNATURES]:
        descriptor = Descriptor.parse(layer)
        if descriptor.media_type == _PAYLOAD_TYPE and descriptor.size <= _MAX_PAYLOAD:
            payload = repository.document(descriptor.digest, descriptor.size, "signature")
            signature = _signature(descriptor)
            if _says(payload) == str(digest) and any(_fits(key, signature, payload) for key in keys):
                return
    raise _not_signed(digest, "no key that counts on this host has signed it")


def _says(payload: bytes) -> str:
    """Return the digest that a payload speaks of; empty if it is no statement about an image."""
    document = json_object(payload, "signature").get("critical")
    critical = document if isinstance(document, dict) else {}
    image = critical.get("image")
    if critical.get("type") != _KIND or not isinstance(image, dict):
        return ""
    return str(image.get("docker-manifest-digest"))


def _signature(descriptor: Descriptor) -> bytes:
    try:
        return base64.b64decode(descriptor.annotations.get(_SIGNATURE, ""), validate=True)
    except ValueError:  # which is what binascii.Error is, too
        return b""


def _fits(key: PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _not_signed(digest: Digest, why: str) -> NotSigned:
    return NotSigned(
        f"The image {shown(str(digest))} is refused: {why}.",
        "Sign it (`cosign sign --key`) with a key whose public half the operator has in [docker] signature_keys.",
    )

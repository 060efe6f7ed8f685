# SPDX-License-Identifier: Apache-2.0
"""Sign an image of a registry, as ``cosign sign --key`` does."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from image_archives import descriptor

if TYPE_CHECKING:
    from small_registry import SmallRegistry


def pem(key: Any) -> bytes:
    """The public half of a key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def sign(registry: SmallRegistry, image: str, *keys: ec.EllipticCurvePrivateKey, **change: Any) -> None:
    """Put signatures beside an image.

    Args:
        registry: where.
        image: the digest of its manifest.
        keys: each makes one.
        change: what is to be wrong.
    """
    critical = {
        "identity": {"docker-reference": f"{registry.name}/team/app"},
        "image": {"docker-manifest-digest": change.get("digest", image)},
        "type": change.get("kind", "cosign container image signature"),
    }
    payload = change.get("payload", json.dumps({"critical": critical, "optional": None}).encode())
    registry.blob(payload)
    registry.blob(b"{}")
    layers = []
    for key in keys:
        signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
        annotations = {"dev.cosignproject.cosign/signature": change.get("signature", signature)}
        kind = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}
        layers.append(descriptor(payload, "x", annotations=annotations) | kind)
    registry.manifest(
        {"schemaVersion": 2, "config": descriptor(b"{}", "config.v1+json"), "layers": layers},
        f"sha256-{image.removeprefix('sha256:')}.sig",
    )

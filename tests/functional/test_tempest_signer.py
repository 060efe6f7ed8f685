# SPDX-License-Identifier: Apache-2.0
"""What ``dockstack tempest`` signs holds for castellan, cursive and so for Glance and Nova: by their own code."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from castellan import options
from castellan.common.objects.x_509 import X509
from castellan.key_manager.barbican_key_manager import BarbicanKeyManager
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cursive import certificate_utils, exception, signature_utils
from oslo_config import cfg
from static_keys import BACKEND, StaticKeyManager

from dockstack.verify.tempest import signing

pytestmark = pytest.mark.functional

CERTIFICATE, OTHER = "5e1f7ad6-2a5c-4d3e-9f6e-0000000000ce", "5e1f7ad6-2a5c-4d3e-9f6e-0000000000cf"
IMAGE = b"an image" * 1000


@pytest.fixture
def key(monkeypatch):
    options.set_defaults(cfg.CONF)  # registers them
    cfg.CONF.set_override("backend", BACKEND, group="key_manager")
    made = rsa.generate_private_key(65537, 2048)
    another = rsa.generate_private_key(65537, 2048)
    held = {CERTIFICATE: kept(made), OTHER: kept(another)}
    monkeypatch.setattr(StaticKeyManager, "held", held)
    yield made
    cfg.CONF.clear_override("backend", group="key_manager")


def kept(key) -> X509:
    """A certificate as castellan has it of Barbican."""
    secret = SimpleNamespace(secret_type="certificate", payload=signing.certificate(key, "signer"))
    return X509(BarbicanKeyManager._get_secret_data(None, secret))


def verify(properties, data):
    """As Glance and Nova do."""
    names = ("img_signature_certificate_uuid", "img_signature_hash_method", "img_signature", "img_signature_key_type")
    verifier = signature_utils.get_verifier(None, *(properties[name] for name in names))
    verifier.update(data)
    verifier.verify()


def test_the_signature_holds_for_the_image_and_for_no_other(key):
    properties = signing.signature(key, IMAGE, CERTIFICATE)
    verify(properties, IMAGE)
    with pytest.raises(InvalidSignature):
        verify(properties, IMAGE + b"!")


def test_the_certificate_is_trusted_where_it_is_named_and_nowhere_else(key):
    certificate_utils.verify_certificate(None, CERTIFICATE, [CERTIFICATE])
    with pytest.raises(exception.SignatureVerificationError):
        certificate_utils.verify_certificate(None, CERTIFICATE, [OTHER])

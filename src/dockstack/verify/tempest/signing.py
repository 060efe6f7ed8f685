# SPDX-License-Identifier: Apache-2.0
"""A signed image for Tempest's test of one, in a project of its own.

Nova asks the key manager for a certificate as the user who boots, and Barbican shows it to its project alone. Tempest
makes a project for each class of tests, which could not read it. So this test has accounts that are there before it.
All of them are named as Tempest's own, and are swept as those are.
"""

from __future__ import annotations

import base64
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from keystoneauth1 import exceptions as keystone_errors
from openstack import exceptions as sdk_errors

from dockstack.verify.tempest.model import SignedImage
from dockstack.verify.tempest.sweep import ACCOUNT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from dockstack.verify.tempest.model import TempestFacts

KEY_MANAGER = "key-manager"
_ROLES = ("member", "reader")
_VALID = timedelta(days=1)  # also of the secret, which is all that a killed run leaves
_CIDR = "10.79.0.0/24"
_REFUSALS = (sdk_errors.SDKException, keystone_errors.ClientException)


@contextmanager
def signed_image(
    connection: Any, facts: TempestFacts, directory: Path, say: Callable[[str], None]
) -> Iterator[SignedImage | None]:
    """Have a signed image while Tempest runs; None where no key manager can keep its certificate.

    One test of many needs it: a cloud that refuses it, as one whose Glance does not read Barbican, has the others run.

    Args:
        connection: an administrator's.
        facts: of the cloud.
        directory: Tempest's, for us alone to read.
        say: is told why there is none, and of what stays.
    """
    if KEY_MANAGER not in facts.services:
        yield None
        return
    made = None
    with ExitStack() as stack:
        try:
            made = _make(connection, facts, directory, partial(_forget, stack, say))
        except _REFUSALS as error:
            stack.close()
            say(f"no signed image can be made, and Tempest skips its test: {error} (see Glance's and Barbican's logs)")
        yield made


def _forget(stack: ExitStack, say: Callable[[str], None], owner: Any, secret_id: str) -> None:
    """Have a secret go at the end, which may not cost what the tests have shown: it expires by itself."""

    def delete() -> None:
        try:
            owner.key_manager.delete_secret(secret_id)
        except _REFUSALS as error:
            say(f"could not remove secret {secret_id}, which expires within a day: {error}")

    stack.callback(delete)


def _make(connection: Any, facts: TempestFacts, directory: Path, forget: Callable[[Any, str], None]) -> SignedImage:
    """Make a project, its people, a certificate there, and an image that is signed with it."""
    name = f"{ACCOUNT_PREFIX}signed-{secrets.token_hex(4)}"
    people = {role: (f"{name}-{role}", secrets.token_urlsafe(24)) for role in _ROLES}
    _make_project(connection, name, people)
    username, password = people["member"]
    owner = connection.connect_as(username=username, password=password, project_name=name)
    key = rsa.generate_private_key(65537, 2048)
    secret = owner.key_manager.create_secret(
        name=name,
        secret_type="certificate",  # noqa: S106 - the kind of it
        payload=base64.b64encode(certificate(key, name)).decode(),
        payload_content_type="application/octet-stream",
        payload_content_encoding="base64",
        expiration=f"{datetime.now(UTC) + _VALID:%Y-%m-%dT%H:%M:%S}",
    )
    # by its id in its address; what the SDK takes for an id is the address
    forget(owner, secret.secret_id)
    image = _upload(owner, facts, name, signature(key, facts.image_file.read_bytes(), secret.secret_id))
    return SignedImage(image, secret.secret_id, _note_accounts(directory, name, people))


def certificate(key: RSAPrivateKey, name: str) -> bytes:
    """Make a key's certificate (PEM, as castellan has it from Barbican), which vouches for itself.

    With a list of trusted certificates, Nova takes those alone that may sign others (cursive's certificate_utils).
    """
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    usage |= {"digital_signature": True, "key_cert_sign": True, "crl_sign": False, "decipher_only": False}
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + _VALID)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = builder.add_extension(x509.KeyUsage(**usage), critical=True).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def signature(key: RSAPrivateKey, data: bytes, certificate_id: str) -> dict[str, str]:
    """Sign an image's data; return Glance's properties that say so (cursive's signature_utils)."""
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    return {
        "img_signature": base64.b64encode(key.sign(data, scheme, hashes.SHA256())).decode(),
        "img_signature_hash_method": "SHA-256",
        "img_signature_key_type": "RSA-PSS",
        "img_signature_certificate_uuid": certificate_id,
    }


def _make_project(connection: Any, name: str, people: Mapping[str, tuple[str, str]]) -> None:
    """Make a project with a member, a reader and a network."""
    identity = connection.identity
    project = identity.create_project(name=name)
    for role, (username, password) in people.items():
        user = identity.create_user(name=username, password=password, default_project_id=project.id)
        identity.assign_project_role_to_user(project, user, identity.find_role(role, ignore_missing=False))
    network = connection.network.create_network(name=name, project_id=project.id)
    connection.network.create_subnet(
        name=name, network_id=network.id, project_id=project.id, ip_version=4, cidr=_CIDR, gateway_ip=None
    )


def _upload(owner: Any, facts: TempestFacts, name: str, signed: Mapping[str, str]) -> str:
    with facts.image_file.open("rb") as data:
        made = owner.image.create_image(
            name,
            container_format="docker",
            disk_format="raw",
            data=data,
            validate_checksum=False,
            wait=True,
            img_hv_type="docker",
            hw_vm_mode="exe",
            **signed,
        )
    return str(made.id)


def _note_accounts(directory: Path, name: str, people: Mapping[str, tuple[str, str]]) -> Path:
    """Write the accounts as Tempest reads them; what a killed run had taken is free again."""
    shutil.rmtree(directory / "locks/test_accounts", ignore_errors=True)
    accounts = [
        {
            "username": username,
            "password": password,
            "project_name": name,
            "roles": [role],
            "resources": {"network": name},
        }
        for role, (username, password) in people.items()
    ]
    path = directory / "accounts.yaml"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(accounts))
    return path

# SPDX-License-Identifier: Apache-2.0
"""The cloud's own authority, and the certificates that it signs: made once, kept, and made anew before they end.

Each function takes what is kept, as text, and returns what shall be: the same text as long as it is good, so that a
second run changes nothing. A certificate and its key are one text, so that a file of both is never half new.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
"""What a certificate is for. A node's is a client's: with it, nobody can pretend to be the cloud."""

AUTHORITY_LIFE = timedelta(days=20 * 365)
LIFE = timedelta(days=825)
RENEWED = timedelta(days=120)  # before the end
BACKDATED = timedelta(hours=1)  # clocks differ
LONGEST_NAME = 64  # of a common name (X.520)
_KEY = "-----BEGIN PRIVATE KEY-----"


@dataclass(frozen=True)
class Holder:
    """Whom a certificate names.

    Attributes:
        name: its common name.
        addresses: host names and IP addresses that it is good for.
        purpose: SERVER or CLIENT.
    """

    name: str
    addresses: tuple[str, ...]
    purpose: x509.ObjectIdentifier = SERVER


def authority(kept: str | None, title: str, now: datetime) -> str:
    """Return the authority: its certificate and its key.

    It outlives all that it signs. One that comes near its end gets a new certificate for the same key, so that what it
    has signed stays good.
    """
    key, name = _kept_key(kept), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:LONGEST_NAME])])
    if kept is not None and key is not None:
        try:
            present = x509.load_pem_x509_certificate(kept.encode())
        except ValueError:
            pass
        else:
            name = present.subject  # what it has signed names it so
            if _is_of(present, key) and present.not_valid_after_utc - now > LIFE + RENEWED:
                return kept
    key = key or ec.generate_private_key(ec.SECP256R1())
    only_itself = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(name, name, key, now, now + AUTHORITY_LIFE)
    builder = builder.add_extension(only_itself, critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _text(builder.sign(key, hashes.SHA256()), key)


def issued(kept: str | None, signer: str, holder: Holder, now: datetime) -> str:
    """Return a holder's certificate and key, signed by an authority.

    Args:
        kept: what it has so far; None: nothing.
        signer: the authority's certificate and key.
        holder: whom the certificate shall name.
        now: the time.
    """
    above, signing_key = x509.load_pem_x509_certificate(signer.encode()), _kept_key(signer)
    if signing_key is None:
        raise ValueError("the authority has no key")
    names = _names(holder.addresses)
    if kept is not None and _fits(kept, above, names, holder, now):
        return kept
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, holder.name[:LONGEST_NAME])])
    builder = _builder(subject, above.subject, key, now, min(now + LIFE, above.not_valid_after_utc))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([holder.purpose]), critical=False)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
    )
    return _text(builder.sign(signing_key, hashes.SHA256()), key)


def certificate_of(text: str) -> str:
    """Return the certificate without its key."""
    return text.partition(_KEY)[0]


def key_of(text: str) -> str:
    """Return the key without its certificate."""
    return "".join(text.partition(_KEY)[1:])


def _fits(
    kept: str, above: x509.Certificate, names: x509.SubjectAlternativeName, holder: Holder, now: datetime
) -> bool:
    """Tell whether a certificate has its key, names this holder, is of this authority, and lasts for a while."""
    key = _kept_key(kept)
    try:
        present = x509.load_pem_x509_certificate(kept.encode())
        present.verify_directly_issued_by(above)
        purposes = list(present.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        named = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    mine = key is not None and _is_of(present, key) and named == names and purposes == [holder.purpose]
    return mine and present.not_valid_after_utc - now > RENEWED


def _names(addresses: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_name(address) for address in dict.fromkeys(addresses)])


def _name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _kept_key(text: str | None) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(key_of(text or "").encode(), None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _is_of(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _text(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> str:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (certificate.public_bytes(pem) + private).decode()

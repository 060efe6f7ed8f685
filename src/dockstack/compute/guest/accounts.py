# SPDX-License-Identifier: Apache-2.0
"""The accounts of a root file system: /etc/passwd and /etc/shadow as text. Both are an untrusted image's."""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import time
from dataclasses import dataclass

PASSWD, SHADOW = "/etc/passwd", "/etc/shadow"
ROOT_HOME = "/root"
_FIELDS = 7  # passwd(5)
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000  # SHA-crypt's default, which is what "$6$salt$" without a number means
# SHA-crypt's order of the digest's bytes (https://www.akkadia.org/drepper/SHA-crypt.txt, step 22)
_ORDER = [(index * 22 % 63, (index * 22 + 21) % 63, (index * 22 + 42) % 63) for index in range(21)]


@dataclass(frozen=True)
class Account:
    """A user of a root file system."""

    name: str
    uid: int
    gid: int
    home: str  # absolute and normalised


def parse_passwd(text: str) -> dict[str, Account]:
    """Read /etc/passwd; lines that say nothing usable are passed over. Of two with one name the first counts."""
    found: dict[str, Account] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) != _FIELDS or not (fields[2].isdecimal() and fields[3].isdecimal()):
            continue
        name, home = fields[0], fields[5]
        if name and home.startswith("/") and "\0" not in line:
            home = posixpath.normpath("/" + home.lstrip("/"))
            found.setdefault(name, Account(name, int(fields[2]), int(fields[3]), home))
    return found


def find_account(accounts: dict[str, Account], user: str) -> Account | None:
    """Find the account that an image's USER means: a name or a number, and maybe a group after a colon."""
    name = user.partition(":")[0]
    if name in accounts:
        return accounts[name]
    return next((account for account in accounts.values() if str(account.uid) == name), None)


def set_hash(shadow: str, user: str, hashed: str) -> str | None:
    """Put a password's hash into /etc/shadow, which also unlocks the account; None if the user has no line there."""
    lines = shadow.splitlines()
    for index, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == user and len(fields) > 2:  # noqa: PLR2004 - name, hash, day of the last change
            today = str(int(time.time()) // 86400)
            lines[index] = ":".join([user, hashed, today, *fields[3:]])
            return "\n".join(lines) + "\n"
    return None


def hash_password(password: str, salt: str | None = None) -> str:
    """Hash a password for /etc/shadow with SHA-512 crypt, which every C library of Linux knows.

    Written out, because Python's own is gone from 3.13 on.
    """
    key = password.encode()
    salt = salt if salt is not None else "".join(secrets.choice(_ALPHABET) for _ in range(16))
    seasoning = salt.encode()
    digest = _mix(key, seasoning)
    repeated_key = _repeat(hashlib.sha512(key * len(key)).digest(), len(key))
    repeated_salt = _repeat(hashlib.sha512(seasoning * (16 + digest[0])).digest(), len(seasoning))
    for number in range(_ROUNDS):
        parts = repeated_key if number % 2 else digest
        parts += repeated_salt if number % 3 else b""
        parts += repeated_key if number % 7 else b""
        parts += digest if number % 2 else repeated_key
        digest = hashlib.sha512(parts).digest()
    return f"$6${salt}${_encode(digest)}"


def _mix(key: bytes, salt: bytes) -> bytes:
    """Steps 1 to 12 of SHA-crypt."""
    alternate = hashlib.sha512(key + salt + key).digest()
    mixed = key + salt + _repeat(alternate, len(key))
    length = len(key)
    while length:
        mixed += alternate if length & 1 else key
        length >>= 1
    return hashlib.sha512(mixed).digest()


def _repeat(data: bytes, length: int) -> bytes:
    return (data * (length // len(data) + 1))[:length]


def _encode(digest: bytes) -> str:
    groups = [(digest[a], digest[b], digest[c], 4) for a, b, c in _ORDER] + [(0, 0, digest[63], 2)]
    text = ""
    for high, middle, low, characters in groups:
        value = high << 16 | middle << 8 | low
        for _ in range(characters):
            text += _ALPHABET[value & 63]
            value >>= 6
    return text

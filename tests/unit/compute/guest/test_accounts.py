# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from dockstack.compute.guest.accounts import Account, find_account, hash_password, parse_passwd, set_hash

pytestmark = pytest.mark.unit

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/usr/sbin/nologin

broken
odd:x:no:1::/home/odd:/bin/sh
relative:x:5:5::home:/bin/sh
climber:x:6:6::/home/../../../etc//x/:/bin/sh
root:x:7:7::/elsewhere:/bin/sh
app:x:1000:1001::/srv/app:/bin/sh
"""


def test_what_an_image_says_of_its_users() -> None:
    accounts = parse_passwd(PASSWD)
    assert accounts == {
        "root": Account("root", 0, 0, "/root"),
        "daemon": Account("daemon", 1, 1, "/"),
        "climber": Account("climber", 6, 6, "/etc/x"),
        "app": Account("app", 1000, 1001, "/srv/app"),
    }
    assert find_account(accounts, "app:app") == accounts["app"]
    assert find_account(accounts, "1000") == accounts["app"]
    assert find_account(accounts, "nobody") is None


@pytest.mark.parametrize(
    ("password", "salt", "expected"),
    [  # from the specification of SHA-crypt, and from glibc
        (
            "Hello world!",
            "saltstring",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        ("", ".", "$6$.$oXIbIADLqA1zhqIRxJ.RhU00mxJeOXPFLovSCwkGhXTXMOoFV/AWGl2yyKu4L4LEHnM/wSP8qb5Noqa4JrWrE1"),
    ],
)
def test_hashes(password, salt, expected) -> None:
    assert hash_password(password, salt) == expected


def test_every_hash_has_a_salt_of_its_own() -> None:
    hashes = {hash_password("secret") for _ in range(3)}
    assert len(hashes) == 3
    assert all(re.fullmatch(r"\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}", text) for text in hashes)


def test_a_password_takes_the_place_of_the_old_and_nothing_else() -> None:
    shadow = "root:*:19000:0:99999:7:::\napp:!:19000::::::\n"
    changed = set_hash(shadow, "app", "HASH")
    assert changed is not None
    assert re.fullmatch(r"root:\*:19000:0:99999:7:::\napp:HASH:\d+::::::\n", changed)
    assert set_hash(shadow, "nobody", "HASH") is None
    assert set_hash(shadow, "ro", "HASH") is None

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import paramiko
import pytest

from dockstack.verify.model import CheckFailed
from dockstack.verify.shell import KeyPair, log_in

pytestmark = pytest.mark.unit


def test_a_pair_fits_together_and_hides_its_private_half():
    pair = KeyPair.generate()
    loaded = paramiko.Ed25519Key.from_private_key(io.StringIO(pair.private))
    assert pair.public == f"ssh-ed25519 {loaded.get_base64()}"
    assert "PRIVATE" not in repr(pair)


def test_a_refused_port_is_named_after_the_time():
    with pytest.raises(CheckFailed, match=r"SSH login as dockstack at 192\.0\.2\.1") as caught:
        log_in("192.0.2.1.invalid", "dockstack", KeyPair.generate(), 0.01)
    assert "last try" in caught.value.details

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from types import SimpleNamespace

import paramiko
import pytest

from dockstack.verify import shell
from dockstack.verify.model import CheckFailed
from dockstack.verify.shell import KeyPair, Shell, log_in

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


class CutOff:
    """A client of paramiko's whose commands end without a status."""

    def __init__(self, *, connected: bool) -> None:
        self._connected = connected

    def exec_command(self, _command, timeout):
        assert timeout
        output = io.BytesIO(b"half of it")
        channel = SimpleNamespace(recv_exit_status=lambda: -1)
        return None, SimpleNamespace(read=output.read, channel=channel), None

    def get_transport(self):
        return SimpleNamespace(is_active=lambda: self._connected)

    def close(self):
        self._connected = False


class Whole(CutOff):
    """One whose commands end as they should."""

    def exec_command(self, _command, timeout):
        _, output, _ = super().exec_command(_command, timeout)
        output.channel.recv_exit_status = lambda: 0
        return None, output, None


def test_a_login_that_is_lost_at_once_is_tried_again(monkeypatch):
    clients = [CutOff(connected=False), Whole(connected=True)]
    monkeypatch.setattr(shell, "connect", lambda *_: clients.pop(0))
    assert log_in("192.0.2.1", "dockstack", KeyPair.generate(), 60).run("uptime") == "half of it"


@pytest.mark.parametrize(
    ("connected", "reason"), [(True, "was ended by a signal"), (False, "connection to .* was lost")]
)
def test_a_command_without_a_status_says_why(connected, reason):
    with pytest.raises(CheckFailed, match=reason) as caught:
        Shell(CutOff(connected=connected), "192.0.2.1", 5).run("uptime")
    assert caught.value.details == "half of it"

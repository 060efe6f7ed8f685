# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.network import ovs
from dockstack.compute.network.ovs import PlugError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["unix:{}/nobody.sock", "tcp:127.0.0.1:1"])
def test_a_switch_that_is_away_says_what_to_do(tmp_path, monkeypatch, kind) -> None:
    def connect() -> None:
        ovs._check_listening(kind.format(tmp_path))

    monkeypatch.setattr(ovs, "connect", connect)
    with pytest.raises(PlugError, match="Check that Open vSwitch runs"):
        ovs.list_plugged()

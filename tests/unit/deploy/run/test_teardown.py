# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.node.manifest import Made
from dockstack.deploy.run import teardown

pytestmark = pytest.mark.unit


def test_only_firewall_rules_with_our_comment_are_removed(machine):
    rules = [
        "-P FORWARD ACCEPT",
        "-N dockstack",
        "-A FORWARD -i br-ex -m comment --comment dockstack -j ACCEPT",
        '-A FORWARD -s 10.0.0.0/8 -m comment --comment "not dockstack\'s $(reboot)" -j DROP',
        "-A FORWARD -j dockstack",
    ]
    one = machine({"iptables -t filter -S": rules})
    teardown._masquerade(one, Made("masquerade", "198.51.100.0/24"))
    removed = [command for command in one.commands if " -D " in command]
    assert removed == ["iptables -w -t filter -D FORWARD -i br-ex -m comment --comment dockstack -j ACCEPT"]

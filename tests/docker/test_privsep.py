# SPDX-License-Identifier: Apache-2.0
"""Root's part in its own daemon, with the capabilities that it declares and no more, as nova-compute runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from oslo_config import cfg
from dockstack.compute.privileged import network as privileged

cfg.CONF([], project="test")
cfg.CONF.set_override("helper_command", sys.argv[1], group="dockstack_privileged")
names = [f"nova-d0c57e57-0000-4000-8000-{number:012x}" for number in range(0xFFFFF00, 0xFFFFF08)]

def whole(name):
    device = "tapd0c5" + name[-4:] + "-aa"
    nic = {
        "interface": "eth0", "mac": "fa:16:3e:00:00:01", "mtu": 1442, "addresses": ["10.0.0.5/24", "fd00::5/64"],
        "routes": [["0.0.0.0/0", "10.0.0.1", 100, False, 254], ["::/0", "fd00::1", 100, False, 254]],
        "table": 1000, "sources": [], "offload": True, "inbound": [], "outbound": [],
    }
    privileged.create_namespace(name)
    privileged.wire(name, device, nic)
    privileged.wire(name, device, nic)
    (found,) = privileged.interfaces(name)
    assert found["mac"] == nic["mac"] and found["mtu"] == 1442 and found["up"], found
    assert {"10.0.0.5/24", "fd00::5/64"} <= set(found["addresses"]), found
    try:
        privileged.wire(name, device, nic | {"routes": [["0.0.0.0/0", "10.99.0.1", 100, False, 254]]})
    except OSError as error:
        assert "route 0.0.0.0/0 via 10.99.0.1" in str(error), error
    else:
        raise AssertionError("a route by a gateway that cannot be reached was taken")
    privileged.lower_device(device)
    (found,) = privileged.interfaces(name)
    assert {"10.0.0.5/24", "fd00::5/64"} <= set(found["addresses"]), found
    privileged.delete_device(device)
    privileged.lower_device(device)
    privileged.delete_namespace(name)
    assert not privileged.interfaces(name)

with ThreadPoolExecutor(8) as threads:
    list(threads.map(whole, names))
for name in ("nova-x", "../../etc/passwd"):
    try:
        privileged.delete_namespace(name)
    except ValueError:
        continue
    raise AssertionError(name)
print("whole")
"""


@pytest.mark.usefixtures("private_engine")
def test_through_the_daemon() -> None:
    helper = Path(sys.executable).with_name("privsep-helper")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(helper)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "whole\n", done.stderr
    assert not list(Path("/run/netns").glob("nova-d0c57e57-0000-4000-8000-00000fffff*"))
    assert not list(Path("/sys/class/net").glob("tapd0c5ff0*"))

# SPDX-License-Identifier: Apache-2.0
"""The control groups that the init of a whole system makes: so many, so deep, and none is left of them."""

from __future__ import annotations

from pathlib import Path

from dockstack.compute.containers import inits
from dockstack.oci.process import ImageConfig

# As root of the server: wide, then deep, by names as long as they may be.
FILL = """
exec 2>/dev/null
cd /sys/fs/cgroup
for limit in descendants depth; do echo max > cgroup.max.$limit; done
mkdir deep && cd deep
name=$(busybox printf %255s x | busybox tr ' ' x)
while [ ${deep:-0} -lt 40 ] && mkdir $name && cd -P $name; do deep=$((deep + 1)); done
cd /sys/fs/cgroup
busybox seq 5000 | busybox xargs mkdir
echo deep $deep all $(busybox find . -type d -xdev | busybox wc -l)
"""


def test_who_fills_the_host_with_control_groups_comes_to_an_end(lab) -> None:
    server = lab.server()
    identity = lab.create(server, ImageConfig(env={"PATH": "/bin"}, init=inits.SYSTEMD))
    lab.engine.start(server.container_name)
    assert lab.run(server, "cat", "/proc/1/cgroup").endswith("0::/\n")

    said = lab.engine.execute(server.container_name, ["sh", "-c", FILL]).output.decode()

    deep, groups = said.splitlines()[-1].split()[1::2]
    assert int(deep) < 15, "the runtime cannot remove what has so long a name"
    assert 4000 < int(groups) <= 4097
    lab.engine.remove(server.container_name)
    hierarchies = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    assert not [path for path in hierarchies if (path / "docker" / identity).exists()]

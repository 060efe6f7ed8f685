# SPDX-License-Identifier: Apache-2.0
"""What other deployers are told of our nodes, as Ansible itself reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dockstack.deploy.join import ansible, exports
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
# Groups of Kolla-Ansible's own inventory, as far as ours join them.
MULTINODE = """\
[control]
control01
[compute]
compute01
[baremetal:children]
control
compute
[openvswitch:children]
compute
[ovn-controller:children]
ovn-controller-compute
[ovn-controller-compute:children]
compute
[neutron-ovn-metadata-agent:children]
compute
"""


@pytest.fixture
def nodes(compute):
    return [
        compute(name="node7", address="192.0.2.31", port=2222, user="admin", key="~/.ssh/it's", jump="me@bastion:22"),
        compute(name="node8", address="192.0.2.32"),
    ]


@pytest.fixture
def read_back(tmp_path):
    """What the real ansible-inventory makes of inventories."""

    def listed(*inventories):
        options = [word for path in inventories for word in ("-i", str(path))]
        line = [str(Path(sys.executable).with_name("ansible-inventory")), *options, "--list"]
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "ANSIBLE_LOCALHOST_WARNING": "false"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=50)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return listed


def test_kolla_finds_the_hosts_where_it_needs_them_and_not_among_its_own(nodes, tmp_path, read_back):
    (tmp_path / "multinode").write_text(MULTINODE)
    exports.write(exports.files("kolla", nodes), tmp_path / "ours")
    listed = read_back(tmp_path / "multinode", tmp_path / "ours/docker_compute.yml")
    for group in (*exports.KOLLA_GROUPS, "ovn-controller"):
        assert {"node7", "node8"} <= set(ansible.members(listed, group)), group
    assert ansible.members(listed, "compute") == ("compute01",)
    assert "compute01" in ansible.members(listed, "openvswitch")
    login = {"address": "192.0.2.31", "port": 2222, "user": "admin", "key": "~/.ssh/it's", "jump": "me@bastion:22"}
    assert ansible.nodes(listed, exports.GROUP)["node7"] == {"connector": "@ssh", "roles": ["compute"], **login}
    assert ansible.variables_of(listed, "node7")["ansible_become"] is True
    assert ansible.variables_of(listed, "node8") == {"ansible_host": "192.0.2.32", "ansible_user": "root"}


def test_openstack_ansible_gets_a_kind_of_host_without_its_nova(nodes):
    files = {path: yaml.safe_load(text) for path, text in exports.files("openstack-ansible", nodes).items()}
    kind, hosts = files["env.d/docker_compute.yml"], files["conf.d/docker_compute.yml"]["docker_compute_hosts"]
    (container,) = kind["container_skel"].values()
    assert container["contains"] == ["neutron_ovn_controller"]
    assert set(container["belongs_to"]) < set(kind["physical_skel"])
    assert "docker_compute_hosts" in kind["physical_skel"]
    assert hosts["node8"] == {"ip": "192.0.2.32"}
    assert hosts["node7"]["host_vars"]["ansible_port"] == 2222


@pytest.mark.parametrize(
    ("raw", "deployer", "why"),
    [
        ({"name": "node7"}, "openstack-ansible", "is the name node7"),
        ({"name": "../../etc/node"}, "kolla", "no name that an inventory takes"),
        ({"name": "node[1:3]"}, "kolla", "no name that an inventory takes"),
    ],
    ids=["a name for an address", "a path", "a pattern"],
)
def test_what_would_be_read_as_something_else_is_refused(compute, raw, deployer, why):
    with pytest.raises(DockstackError, match=why):
        exports.files(deployer, [compute(**raw)])


def test_only_files_of_ours_are_written_over(tmp_path):
    exports.write({"a": f"{exports.HEADING}old"}, tmp_path)
    exports.write({"a": f"{exports.HEADING}new"}, tmp_path)
    assert (tmp_path / "a").read_text().endswith("new")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/b").write_text("theirs")
    with pytest.raises(DockstackError, match="not written by dockstack"):
        exports.write({"a": "newer", "host_vars/b": "ours"}, tmp_path)
    assert (tmp_path / "a").read_text().endswith("new")

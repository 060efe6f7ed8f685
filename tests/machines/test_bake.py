# SPDX-License-Identifier: Apache-2.0
"""A cloud that was baked on one machine comes up on others, which reach no package index, as clouds of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lan
import pytest
import yaml

from dockstack.deploy.node.baked import Archive

if TYPE_CHECKING:
    from pathlib import Path

FILE = "/root/cloud.tar.zst"
CELL = "select uuid from nova_api.cell_mappings where name = 'cell1'"
QUESTIONS = (
    "openstack --os-cloud dockstack project list -f value -c ID",
    "openstack --os-cloud dockstack user list -f value -c ID",
    "openstack --os-cloud dockstack endpoint list -f value -c ID",
    "openstack --os-cloud dockstack network list -f value -c ID",
    f'mariadb --no-defaults --socket=/run/dockstack/mariadb/mariadb.sock -N -e "{CELL}"',
    "cat /var/lib/nova/compute_id",
)
KEYS = ("etc/keystone/fernet-keys/*", "etc/keystone/credential-keys/*")


@dataclass
class Known:
    """What is one cloud's own."""

    secrets: set[str]
    names: set[str]


def own_of(machine) -> Known:
    """Return a cloud's secrets, and the ids that it has made."""
    secrets = set(yaml.safe_load((machine.root / "etc/dockstack/secrets.yaml").read_text()).values())
    secrets |= {path.read_text().strip() for pattern in KEYS for path in machine.root.glob(pattern)}
    names = {word.strip('"') for question in QUESTIONS for word in machine.run(question).stdout.split()}
    return Known(secrets, names)


def stored(password: str) -> str:
    """Return what MariaDB keeps of a password (mysql_native_password)."""
    once = hashlib.sha1(password.encode()).digest()  # noqa: S324 - its format
    return f"*{hashlib.sha1(once).hexdigest().upper()}"  # noqa: S324


def files_with(values: set[str], directory: Path) -> list[str]:
    """Return the files that hold any of the values."""
    wanted = "\n".join(sorted(values))
    line = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--file=-", str(directory)]
    return subprocess.run(line, input=wanted, capture_output=True, text=True, check=False).stdout.splitlines()


@pytest.fixture(scope="module")
def baker(lab):
    """A machine that has baked beside its cloud."""
    made = lab.machine("baker", "debian-12")
    lab.give_checkout(made)
    made.run("cd dockstack && ./dockstack up", timeout=1800)
    before = made.run("dockstack status --json").stdout
    made.run(f"dockstack bake {FILE}", timeout=1800)
    pids = [[one["pid"] for one in json.loads(text)["services"]] for text in (before, _status(made))]
    assert pids[0] == pids[1], "the cloud that was there went on"
    return made


@pytest.fixture(scope="module")
def clouds(lab, baker):
    """Two machines that came up from what it has baked."""
    made = [lab.machine(name, "debian-12") for name in ("first", "second")]
    for one in made:
        lab.give_checkout(one)
        shutil.copy(baker.root / FILE.lstrip("/"), one.root / FILE.lstrip("/"))
        one.run("dockstack/dockstack --version")  # its own environment comes from the index
        one.run(f"ip route delete default via {lan.address(1)}")
        one.run(f"cd dockstack && ./dockstack up --from {FILE}", timeout=1800)
    return made


@pytest.mark.timeout(7200)
def test_nothing_of_the_baking_cloud_is_in_the_archive(baker, tmp_path):
    own = own_of(baker)
    archive = Archive.read(baker.root / FILE.lstrip("/"))
    for part in archive.parts:
        archive.unpack(part.name, tmp_path / part.name)
    own.names.update(map(stored, own.secrets))
    for name, value in (("probe", min(own.secrets)), ("stored", stored(min(own.secrets)))):
        (tmp_path / name).write_text(f"-- {value} --")
    found = files_with(own.secrets | own.names, tmp_path)
    assert sorted(found) == [str(tmp_path / "probe"), str(tmp_path / "stored")]
    host = baker.run("hostname").stdout.strip()  # a word that may well be in programs
    assert not files_with({host}, tmp_path / "databases")


@pytest.mark.timeout(7200)
def test_clouds_from_one_archive_share_nothing_with_each_other_or_with_it(baker, clouds):
    found = [own_of(one) for one in (baker, *clouds)]
    for position, one in enumerate(found):
        assert len(one.secrets) > 20
        for other in found[position + 1 :]:
            assert not one.secrets & other.secrets
            assert not one.names & other.names


@pytest.mark.timeout(7200)
def test_they_are_as_if_they_had_come_from_the_mirror(clouds):
    first, second = clouds
    again = first.run(f"cd dockstack && ./dockstack up --from {FILE}").stdout
    assert "nothing had to be changed" in again
    assert not (first.root / "var/lib/dockstack/baked").exists()
    first.run("dockstack verify --only docker")
    audit = first.run("dpkg --audit && apt-get check && apt-mark showauto").stdout
    assert "libmariadb3" in audit or "mariadb-common" in audit, "what came along is known as such"
    second.run("dockstack clean --yes --packages")
    assert not second.run("dpkg-query -W memcached rabbitmq-server", check=False).stdout.strip()


def _status(machine) -> str:
    return machine.run("dockstack status --json").stdout

# SPDX-License-Identifier: Apache-2.0
"""Making certificates on the controller: what is written, with which modes, and what a second run leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dockstack.deploy import paths
from dockstack.deploy.configuration import certificates
from dockstack.deploy.configuration.certificates import Holder
from dockstack.deploy.configuration.settings import Settings
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes import encryption
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted import inventory

pytestmark = pytest.mark.unit
OTHERS = ("listen_address=192.0.2.1", "tls.enable=true")
SECRET = {paths.OWN_AUTHORITY, paths.API_CERTIFICATE, paths.OVN_CERTIFICATE}


class Disk:
    """A machine that keeps what is written."""

    def __init__(self, *assignments):
        self.attributes = inventory.load(None, [*OTHERS, *assignments]).local.attributes
        self.files, self.modes, self.written = {}, {}, []

    def directory(self, path):
        self.modes[path] = 0o755

    def read(self, path):
        text = self.files.get(path)
        return text and text.rstrip("\n")  # as pyinfra has it

    def file(self, path, content, *, mode=0o644):
        if self.files.get(path) != content:
            self.written.append(path)
        self.files[path], self.modes[path] = content, mode


@pytest.fixture
def certify(monkeypatch):
    """Make certificates on a machine with this address."""

    def run(disk, address="192.0.2.1"):
        made = Settings(secrets={}, hostname="controller", listen_address=address, controller_address=address, tls=True)
        monkeypatch.setattr(encryption, "settings_of", lambda _: made)
        disk.written.clear()
        encryption.certify(disk)
        return disk.written

    return run


def test_keys_are_roots_alone_and_what_others_trust_has_none(certify):
    disk = Disk()
    assert len(certify(disk)) == 5
    for path, text in disk.files.items():
        assert ("PRIVATE KEY" in text) == (path in SECRET)
        assert disk.modes[path] == (0o600 if path in SECRET else 0o644)
    assert disk.files[paths.AUTHORITY] == disk.files[paths.OVN_AUTHORITY]
    assert disk.files[paths.API_CERTIFICATE] != disk.files[paths.OVN_CERTIFICATE], "a key for each"


def test_a_second_run_writes_nothing_and_another_address_only_what_names_it(certify):
    disk = Disk()
    certify(disk)
    assert certify(disk) == []
    assert set(certify(disk, "192.0.2.2")) == {paths.API_CERTIFICATE, paths.OVN_CERTIFICATE}


def test_a_certificate_of_the_operators_is_not_for_ovn(certify, tmp_path):
    now = datetime.now(UTC)
    theirs = certificates.authority(None, "Example's authority", now)
    served = certificates.issued(None, theirs, Holder("cloud", ("192.0.2.1",)), now)
    disk = Disk("tls.certificate=/c.pem", "tls.private_key=/k.pem", "tls.authority=/a.pem")
    disk.files |= {
        "/c.pem": certificates.certificate_of(served),
        "/k.pem": certificates.key_of(served),
        "/a.pem": certificates.certificate_of(theirs),
    }
    certify(disk)
    assert disk.files[paths.API_CERTIFICATE] == served
    assert disk.files[paths.AUTHORITY] == certificates.certificate_of(theirs)
    assert disk.files[paths.OVN_AUTHORITY] == certificates.certificate_of(disk.files[paths.OWN_AUTHORITY])
    assert certify(disk) == []


def test_files_of_the_operators_that_are_not_there_are_named(certify):
    with pytest.raises(StepFailedError, match=r"/c\.pem \(tls\.certificate\)"):
        certify(Disk("tls.certificate=/c.pem", "tls.private_key=/k.pem", "tls.authority=/a.pem"))


def after(stages, name):
    """All that comes before a stage."""
    direct = next(stage.after for stage in stages if stage.name == name)
    return {*direct, *(each for one in direct for each in after(stages, one))}


def test_nothing_is_spoken_to_before_the_proxy_is_there():
    stages = node_stages(inventory.load(None, OTHERS).local)
    for name in ("keystone", "identity", "nova-daemons", "neutron", "compute", "base-image"):
        assert {"encryption", "certificates"} <= after(stages, name)
    assert "certificates" in after(stages, "switch")


def test_on_the_loopback_there_is_no_such_stage():
    names = {stage.name for stage in node_stages(inventory.load(None).local)}
    assert not {"encryption", "certificates"} & names

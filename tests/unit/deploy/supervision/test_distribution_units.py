# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace

import pytest

from dockstack.deploy.node.manifest import Made, Manifest
from dockstack.deploy.node.output import Output
from dockstack.deploy.supervision import distribution_units

pytestmark = pytest.mark.unit


class Machine:
    def __init__(self, directory, backend="systemd", known=""):
        self.backend = SimpleNamespace(name=backend)
        self.manifest = Manifest(directory)
        self.known = known
        self.lines = []

    def run(self, command, *, check=True):
        line = command if isinstance(command, str) else " ".join(command)
        if "list-unit-files" not in line:
            self.lines.append(line)
        return Output(True, self.known, "")

    def command(self, command):
        noted = {entry.name for entry in self.manifest.entries()}
        assert command[-1] in noted, "noted before it is made"
        self.lines.append(" ".join(command))


def test_units_that_are_not_there_yet_are_masked_and_noted(tmp_path):
    machine = Machine(tmp_path, known="haproxy.service enabled enabled\n")
    distribution_units.hold(machine, ["epmd.socket", "haproxy.service"])
    assert machine.lines == ["systemctl mask --quiet epmd.socket"]
    assert machine.manifest.entries() == [Made("held-unit", "epmd.socket")]


def test_nothing_is_masked_where_systemd_does_not_rule(tmp_path):
    machine = Machine(tmp_path, backend="supervisor")
    distribution_units.hold(machine, ["epmd.socket"])
    assert machine.lines == []
    assert machine.manifest.entries() == []


def test_a_unit_is_given_back_disabled_if_the_mask_is_still_there(tmp_path):
    machine = Machine(tmp_path)
    distribution_units.release(machine, Made("held-unit", "epmd.socket"))
    (line,) = machine.lines
    assert line == (
        'test "$(readlink /etc/systemd/system/epmd.socket)" = /dev/null'
        " && systemctl unmask --quiet epmd.socket && systemctl disable --quiet epmd.socket"
    )

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from oslo_config import cfg

from dockstack.compute import conf

pytestmark = pytest.mark.unit


def test_registers_twice_and_has_defaults() -> None:
    configuration = cfg.ConfigOpts()
    conf.register(configuration)
    conf.register(configuration)
    configuration([])
    assert configuration.docker.host_url == "unix:///run/docker.sock"
    assert configuration.docker.runtime == "dockstack"
    assert not configuration.docker.skip_allocation_lookup, "it patches Nova: an operator's choice"


def test_every_option_says_when_to_change_it() -> None:
    ((group, options),) = conf.list_opts()
    assert group.name == "docker"
    for option in options:
        assert any(
            word in option.help for word in ("Change it", "Raise it", "Lower it", "Set it", "With 1,", "Must be")
        ), option.name

# SPDX-License-Identifier: Apache-2.0
"""The services' locks lack on no Python what the services want, which this environment knows, but what is left out."""

from __future__ import annotations

import pytest
from nova_release import RELEASE
from packaging.requirements import Requirement

import locks

pytestmark = pytest.mark.functional


@pytest.mark.parametrize("python", locks.PYTHONS)
@pytest.mark.parametrize(("lock", "more"), [("openstack", ()), ("functional", ("functional.in",))])
def test_nothing_that_the_services_want_is_missing(lock, more, python):
    wanted = locks.asked(f"{RELEASE}/services.in", "openstack.in", *more)
    missing = locks.missing(locks.LOCKS / RELEASE / f"{lock}.txt", python, wanted)
    without = f"{RELEASE}/without.in"
    left_out = {each.name for each in locks.asked(without)} if (locks.LOCKS / without).exists() else set()
    assert {Requirement(each).name for each in missing} == left_out

# SPDX-License-Identifier: Apache-2.0
"""The services' locks lack nothing on any Python: this environment knows what the services' packages want."""

from __future__ import annotations

import pytest
from nova_release import RELEASE

import locks

pytestmark = pytest.mark.functional


@pytest.mark.parametrize("python", locks.PYTHONS)
@pytest.mark.parametrize(("lock", "more"), [("openstack", ()), ("functional", ("functional.in",))])
def test_nothing_that_the_services_want_is_missing(lock, more, python):
    wanted = locks.asked(f"{RELEASE}/services.in", "openstack.in", *more)
    assert locks.missing(locks.LOCKS / RELEASE / f"{lock}.txt", python, wanted) == set()

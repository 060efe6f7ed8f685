# SPDX-License-Identifier: Apache-2.0
"""What is said of each release is what its Nova says of itself."""

from __future__ import annotations

import pytest
from nova.api.openstack import api_version_request
from nova.objects import service
from nova_release import RELEASE

from dockstack.deploy.join.probes import releases

pytestmark = pytest.mark.functional


def test_the_api_tells_its_release():
    newest = releases.microversion(api_version_request.max_api_version().get_string())
    assert releases.NEWEST[newest] == RELEASE
    assert releases.release_of(newest) == RELEASE


def test_services_count_themselves_so():
    assert releases.SERVICE_VERSIONS[service.SERVICE_VERSION] == RELEASE


def test_the_oldest_compute_node_that_a_release_takes():
    oldest = service.SERVICE_VERSION_ALIASES[service.OLDEST_SUPPORTED_SERVICE_VERSION]
    assert releases.oldest_service(service.SERVICE_VERSION) in {oldest, 0}
    if RELEASE == "2026.2":
        assert releases.oldest_service(service.SERVICE_VERSION) == oldest

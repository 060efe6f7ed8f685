# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.verify.model import Capability, CloudFacts, Timeouts


@pytest.fixture
def facts():
    return CloudFacts(
        hypervisors=("docker",), image_id="image", image_name="dockstack-base", flavor_id="flavor",
        flavor_name="m1.nano", flavor_memory_mb=64, flavor_vcpus=1,
        network_id="net", network_name="private", external_network_id="ext",
        login_user="dockstack", missing={Capability.IPV6: "network private has no IPv6 subnet"},
    )  # fmt: skip


@pytest.fixture
def short():
    return Timeouts(active=0.01, terminate=0.01, associate=0.01, answer=0.01, command=0.01, silence=0.01)

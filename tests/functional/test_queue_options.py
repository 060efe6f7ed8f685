# SPDX-License-Identifier: Apache-2.0
"""The cloud document's defaults of the queues are oslo.messaging's: what a cloud's files leave out means these."""

from __future__ import annotations

import pytest
from oslo_messaging._drivers import amqp, impl_rabbit

from dockstack.deploy.wanted.cloud_keys import QUEUE_OPTIONS

pytestmark = pytest.mark.functional


def test_defaults_are_oslo_messagings():
    theirs = {option.name: option.default for option in (*amqp.amqp_opts, *impl_rabbit.rabbit_opts)}
    assert {name: theirs[name] for name, _, _ in QUEUE_OPTIONS} == {name: default for name, _, default in QUEUE_OPTIONS}

# SPDX-License-Identifier: Apache-2.0
"""Keystone's API for uWSGI, in Keystone's own environment: its policy is complete before the first request.

Keystone makes its policy enforcer at the first request that needs it and fills it afterwards
(keystone/common/rbac_enforcer/enforcer.py:RBACEnforcer._enforcer). A second thread that comes in between finds no rule
and refuses: a token that is good counts as forbidden, and the service that asked answers 503.
"""

from __future__ import annotations

import flask
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer
from keystone.wsgi.api import application

__all__ = ["application"]

# Only within a request is Keystone silent about each of the deprecated rules.
with flask.Flask(__name__).test_request_context():
    RBACEnforcer()._enforcer.load_rules()  # noqa: SLF001 - its public way would read the configuration anew

# SPDX-License-Identifier: Apache-2.0
"""Keystone's API for uWSGI, in Keystone's own environment: its policy is complete before the first request.

Keystone creates its policy enforcer at the first request that needs it, and loads the rules after that
(keystone/common/rbac_enforcer/enforcer.py:RBACEnforcer._enforcer). A second thread that uses it in between finds no
rule, so a valid token is refused and the service that sent it answers 503.
"""

from __future__ import annotations

import flask
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer
from keystone.wsgi.api import application

__all__ = ["application"]

# Only within a request is Keystone silent about each of the deprecated rules.
with flask.Flask(__name__).test_request_context():
    RBACEnforcer()._enforcer.load_rules()  # noqa: SLF001 - its public way would read the configuration anew

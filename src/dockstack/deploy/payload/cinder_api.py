# SPDX-License-Identifier: Apache-2.0
"""Cinder's API for uWSGI, in Cinder's own environment: its policy is complete before the first request.

Cinder creates its policy enforcer at the first request that needs it, and loads the rules after that
(cinder/policy.py:init). A second thread that uses it in between finds no rule, so what it asks for is refused.
"""

from __future__ import annotations

from cinder import policy
from cinder.wsgi.api import application

__all__ = ["application"]

policy.init()

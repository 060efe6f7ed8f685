# SPDX-License-Identifier: Apache-2.0
"""Barbican's API for uWSGI, in Barbican's own environment: its policy is complete before the first request.

Barbican creates its policy enforcer at the first request that needs it, and loads the rules after that
(barbican/common/policy.py:init). A second thread that uses it in between finds no rule, so what it asks for is refused.
"""

from __future__ import annotations

from barbican.common import policy
from barbican.wsgi.api import application

__all__ = ["application"]

policy.init()

# SPDX-License-Identifier: Apache-2.0
"""Neutron's API for uWSGI, in Neutron's own environment: its policy is complete before the first request.

Neutron creates its policy enforcers at the first request that needs them, and loads their rules after that
(neutron/policy.py:init, and neutron_lib/policy/_engine.py:init for what a role makes of its holder). A second thread
that uses them in between finds no rule, so what it asks for is refused, and Neutron hides a refusal behind "404 Not
Found". Nova takes that for the truth: the port of a server that is deleted stays for ever.
"""

from __future__ import annotations

from neutron import policy
from neutron.wsgi.api import application
from neutron_lib import context

__all__ = ["application"]

policy.init()
context.Context()  # the only public way to neutron_lib's rules

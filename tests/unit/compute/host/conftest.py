# SPDX-License-Identifier: Apache-2.0
"""The fixtures of the flows: a host in memory with one image in its Glance."""

from fake_flows import host, world

__all__ = ["host", "world"]

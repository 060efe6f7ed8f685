# SPDX-License-Identifier: Apache-2.0
"""The OpenStack release whose Nova this environment has."""

from __future__ import annotations

from importlib.metadata import version

RELEASE = {"33": "2026.1", "34": "2026.2"}[version("nova").partition(".")[0]]

# SPDX-License-Identifier: Apache-2.0
"""Examples that hypothesis finds: the same in every run, and no failures for having been slow on a busy machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("dockstack", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dockstack")

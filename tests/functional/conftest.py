# SPDX-License-Identifier: Apache-2.0
"""Run Nova's code on native threads, as its services run, and not patched for eventlet, as its tests would have it."""

from __future__ import annotations

import os

os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"
os.environ.setdefault("OS_TEST_TIMEOUT", "600")

from nova import monkey_patch

monkey_patch.patch()

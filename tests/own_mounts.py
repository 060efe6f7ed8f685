# SPDX-License-Identifier: Apache-2.0
"""Whether tests may have namespaces of their own: root in a container may often not."""

from __future__ import annotations

import subprocess

import pytest


def _may_mount() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not _may_mount(), reason="this user may have no mount namespace of its own")

# SPDX-License-Identifier: Apache-2.0
"""The volume driver does what Cinder asks of one, and fits Cinder's own contract test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.functional

CASE = Path(__file__).with_name("volume_driver_case.py")


def test_the_volume_driver_within_cinder(tmp_path):
    """In a process of its own: Nova and Cinder have options of the same names, and one registry for them."""
    line = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-W", "ignore", str(CASE)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=CASE.parents[2])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout

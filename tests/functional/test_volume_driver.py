# SPDX-License-Identifier: Apache-2.0
"""The volume driver does what Cinder asks of one, and fits Cinder's own contract test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.functional

HERE = Path(__file__).parent


def test_the_volume_driver_within_cinder(tmp_path):
    run_alone("volume_driver_case.py", tmp_path)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="Cinder needs qemu-img (qemu-utils) for images")
def test_images_and_volumes_become_each_other_without_root(tmp_path):
    run_alone("volume_image_case.py", tmp_path)


def run_alone(case, directory):
    """Run a file of tests in a process of its own: Nova and Cinder have options of the same names, in one registry."""
    line = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-W", "ignore"]
    environment = {**os.environ, "TMPDIR": str(directory)}
    done = subprocess.run(
        [*line, str(HERE / case)], capture_output=True, text=True, check=False, env=environment, cwd=HERE.parents[1]
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout

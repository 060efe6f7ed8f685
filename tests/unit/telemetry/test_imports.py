# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's environment has neither Nova nor the driver's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SOURCE = Path(__file__).resolve().parents[3] / "src"


def test_a_census_needs_nothing_but_the_standard_library() -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import dockstack.telemetry.census"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=120)

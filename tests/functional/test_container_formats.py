# SPDX-License-Identifier: Apache-2.0
"""What Glance itself says of the formats that it takes: the DevStack plugin adds to these."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.functional

SCRIPT = Path(__file__).resolve().parents[2] / "devstack/tools/container_formats.py"


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("", None),
        ("[image_format]\ncontainer_formats = bare, ova\n", "bare,ova"),
        ("[DEFAULT]\ncontainer_formats = bare,vendor\n", "bare,vendor"),  # where older releases had it
    ],
)
def test_its_own_choice_and_the_files_are_told(tmp_path, text, formats):
    path = tmp_path / "glance-api.conf"
    path.write_text(text)
    done = subprocess.run([sys.executable, SCRIPT, path], capture_output=True, text=True, check=True)
    said = done.stdout.strip()
    assert said == formats if formats else {"bare", "ova", "compressed"} < set(said.split(","))

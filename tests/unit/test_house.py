# SPDX-License-Identifier: Apache-2.0
"""The house rules, run as tests: lint, format, types, import arrows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff": [str(BIN / "ruff"), "check", "--quiet", "."],
    "format": [str(BIN / "ruff"), "format", "--check", "--quiet", "."],
    "types": [str(BIN / "mypy")],
    "imports": [str(BIN / "lint-imports"), "--no-cache"],
}


@pytest.mark.unit
@pytest.mark.parametrize("check", CHECKS)
def test_house_rule(check: str) -> None:
    done = subprocess.run(CHECKS[check], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.unit
def test_every_source_file_names_its_licence() -> None:
    trees = ("src", "tests", "tools", "benchmarks", "devstack")
    sources = [CHECKOUT / "dockstack", *(path for tree in trees for path in CHECKOUT.glob(f"{tree}/**/*.py"))]
    nameless = [str(path) for path in sources if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()]
    assert not nameless

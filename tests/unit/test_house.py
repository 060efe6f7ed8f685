# SPDX-License-Identifier: Apache-2.0
"""The house rules, run as tests: lint, format, types, import arrows, tests that a busy machine does not break."""

from __future__ import annotations

import ast
import re
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


TESTS = sorted((CHECKOUT / "tests").glob("**/*.py"))
SHORTEST = 30  # seconds: a machine with other work may need that for what takes one


@pytest.mark.unit
def test_who_sleeps_in_a_test_looks_again_or_says_why() -> None:
    """A sleep that another side's work has to fit into is too short on some machine, one day."""
    unexplained = []
    for path in TESTS:
        lines = path.read_text().splitlines()
        tree = ast.parse("\n".join(lines))
        again = {id(inner) for loop in ast.walk(tree) if isinstance(loop, ast.While) for inner in ast.walk(loop)}
        unexplained += [
            f"{path}:{call.lineno}"
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("time.sleep", "sleep")
            if id(call) not in again and "  # " not in lines[call.lineno - 1]
        ]
    assert not unexplained, "wait for the condition; if there is none, say in a comment what the time is for"


@pytest.mark.unit
def test_no_test_measures_a_short_time() -> None:
    """What must end soon is told from what does not end by a bound that no busy machine reaches."""
    bound = re.compile(r"assert .*monotonic\(\) - \w+\)? < (\d+)\b")
    short = [
        f"{path}:{number}"
        for path in TESTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := bound.search(line)) and int(found[1]) < SHORTEST
    ]
    assert not short, f"of {SHORTEST} s at least, with what is caught taking longer still"

# SPDX-License-Identifier: Apache-2.0
"""What `dockstack verify` proves, one test an exercise; what every cloud of dockstack's has may not be skipped."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dockstack.verify.cloud import DEFAULT_CLOUD, Choices, find_facts
from dockstack.verify.exercises import ALL
from dockstack.verify.model import Capability, Verdict
from dockstack.verify.report import evidence_of
from dockstack.verify.runner import run_one

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

OPTIONAL = {Capability.VOLUMES}  # off unless an attribute says otherwise


@pytest.fixture(scope="module")
def facts(connection):
    """The cloud's, with a whole Debian: `up` does not bring one, as its packages take a minute or two."""
    command = [sys.executable, "-m", "dockstack.cli", "image", "build", "debian", "--import", "--public"]
    done = subprocess.run([*command, "--os-cloud", DEFAULT_CLOUD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return find_facts(connection, Choices())


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
def test_exercise(exercise, connection, facts, timeouts, alone):
    if lacks := facts.why_not(exercise.needs & OPTIONAL):
        pytest.skip(lacks)
    result = run_one(exercise, connection, facts, timeouts, print)
    if result.verdict is not Verdict.PASSED:
        pytest.fail(f"{result.verdict}\n{evidence_of(result)}", pytrace=False)

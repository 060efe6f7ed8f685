# SPDX-License-Identifier: Apache-2.0
"""What `dockstack verify` proves, one test an exercise; on dockstack's own cloud nothing may be skipped."""

from __future__ import annotations

import pytest

from dockstack.verify.exercises import ALL
from dockstack.verify.model import Verdict
from dockstack.verify.report import evidence_of
from dockstack.verify.runner import run_one

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
def test_exercise(exercise, connection, facts, timeouts, alone):
    result = run_one(exercise, connection, facts, timeouts, print)
    if result.verdict is not Verdict.PASSED:
        pytest.fail(f"{result.verdict}\n{evidence_of(result)}", pytrace=False)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal

import pytest

from dockstack.verify.interrupts import postponed

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def hears_interrupts():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_until_the_undo_is_known():
    done = []

    def make() -> None:
        with postponed():
            signal.raise_signal(signal.SIGINT)
            done.append("undo")

    with pytest.raises(KeyboardInterrupt):
        make()
    assert done == ["undo"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_happens_without_one():
    with postponed():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal

import pytest

from dockstack.verify.interrupts import interrupt, postponed

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


def test_a_second_end_does_not_interrupt_what_the_first_has_taken_back():
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_ctrl_c_interrupts_again():
    signal.signal(signal.SIGINT, interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

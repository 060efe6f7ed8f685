# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from dockstack.deploy.supervision.backends.supervisor import PROGRAM
from dockstack.deploy.supervision.backends.supervisord import FreshPoller

pytestmark = pytest.mark.unit


def test_a_descriptor_that_is_something_else_by_now_keeps_nobody_awake():
    """The writing end of a pipe, registered as if it were to be read, whose reader goes away."""
    reader, writer = os.pipe()
    poller = FreshPoller(None)
    poller.register_readable(writer)
    os.close(reader)
    poller.poll(0.01)
    began = time.monotonic()
    assert poller.poll(0.2) == ([], [])
    assert time.monotonic() - began > 0.15
    os.close(writer)


def test_what_is_named_for_a_round_is_seen_in_it():
    reader, writer = os.pipe()
    poller = FreshPoller(None)
    os.write(writer, b"x")
    for _ in range(2):
        poller.register_readable(reader)
        poller.register_writable(writer)
        assert poller.poll(1) == ([reader], [writer])
        poller.unregister_readable(reader)
        poller.unregister_writable(writer)
    os.close(reader)
    os.close(writer)


def test_the_program_is_supervisord():
    done = subprocess.run([sys.executable, "-I", PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("4.")

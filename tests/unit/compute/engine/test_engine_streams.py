# SPDX-License-Identifier: Apache-2.0
"""What the engine streams may break off, trickle or fall silent; each is our own error in time."""

from __future__ import annotations

import io
import time

import pytest

from dockstack.compute.engine import EngineTooSlow, EngineUnavailable, images
from dockstack.compute.engine.files import _first_file
from image_archives import tar

pytestmark = pytest.mark.unit

ARCHIVE = tar([("etc/passwd", b"root" * 200)])


@pytest.mark.parametrize("length", [0, 100, 700])
def test_a_file_whose_stream_is_cut_off_is_the_engines_fault(length):
    with pytest.raises(EngineUnavailable):
        _first_file(io.BytesIO(ARCHIVE[:length]), 1000)


def test_a_whole_file_is_read():
    assert _first_file(io.BytesIO(ARCHIVE), 1000).data == b"root" * 200


class Client:
    """A connection to an engine whose answer never ends."""

    def __init__(self, says):
        self.says = says

    def close(self):
        pass

    def load_image(self, chunks):
        list(chunks)
        return self.says()


@pytest.fixture
def engine(monkeypatch):
    def make(says):
        engine = images.Images("unix:///nowhere", 1)
        timeouts = []
        monkeypatch.setattr(engine, "_connect", lambda timeout: timeouts.append(timeout) or Client(says))
        return engine, timeouts

    return make


def trickle():
    while True:
        yield {"status": "Loading layer"}


def silent():
    raise TimeoutError("timed out")


@pytest.mark.parametrize("chunks", [[b"x"], (b"x" for _ in iter(int, 1))])
@pytest.mark.parametrize("says", [trickle, silent])
def test_an_engine_that_loads_for_ever_is_not_waited_for(engine, says, chunks):
    patient, timeouts = engine(says)
    if says is silent and isinstance(chunks, list):
        with pytest.raises(EngineUnavailable):
            patient.load_image(chunks, time.monotonic() + 60)
    else:
        with pytest.raises(EngineTooSlow):
            patient.load_image(chunks, time.monotonic() + 0.2)
        assert set(timeouts) <= {1}  # none, if this process had no turn until its time was over


def test_a_deadline_that_has_passed_is_not_begun(engine):
    with pytest.raises(EngineTooSlow):
        engine(trickle)[0].load_image([], time.monotonic() - 1)

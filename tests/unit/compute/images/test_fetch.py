# SPDX-License-Identifier: Apache-2.0
"""One fetch for all who wait; a failure is shared once and then forgotten."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from dockstack.compute.engine import EngineTooSlow
from dockstack.compute.images.fetch import CHECKSUM_REPOSITORY, GLANCE_REPOSITORY, FetchTimeout, ImageStore
from dockstack.compute.model import Image
from dockstack.oci.normalise import ImageLimits, ImageRejected
from fake_images import FakeEngine
from image_archives import config, docker_save, pieces, sample_layer, sha256, tar

pytestmark = pytest.mark.unit

DATA = docker_save([sample_layer()])
ENGINE_ID = "sha256:" + sha256(config([sample_layer()]))
IMAGE = Image(id="11111111-2222", name="one", checksum=hashlib.sha512(DATA).hexdigest(), size=len(DATA))


class Source:
    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.count = 0
        self.waiting = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, image):
        self.count += 1
        self.waiting.set()
        assert self.gate.wait(120)
        return pieces(self.data)


@pytest.fixture
def engine():
    return FakeEngine()


def make(engine, source, tmp_path, **limits) -> ImageStore:
    store = ImageStore(engine, source, tmp_path / "workspace", ImageLimits(**limits), architecture="x86_64")
    store.sweep()
    return store


def test_an_image_is_loaded_tagged_and_described(engine, tmp_path):
    loaded = make(engine, Source(), tmp_path).ensure(IMAGE, 0)
    assert (loaded.engine_id, loaded.config.command) == (ENGINE_ID, ("/bin/true",))
    assert engine.tags == {
        f"{GLANCE_REPOSITORY}:{IMAGE.id}": ENGINE_ID,
        f"{CHECKSUM_REPOSITORY}:{IMAGE.checksum}": ENGINE_ID,
    }


def test_an_image_that_only_names_one_is_refused_before_it_is_read(engine, tmp_path):
    source = Source()
    with pytest.raises(ImageRejected, match="only names an image in a registry"):
        make(engine, source, tmp_path).ensure(replace(IMAGE, container_format="dockerref"), 0)
    assert source.count == 0


def all_at_once(store: ImageStore, source: Source, image: Image, count: int) -> list[Future]:
    """Ask ``count`` times, and let the download go on only when all of them wait for it."""
    joined = threading.Semaphore(0)
    join = store._join

    def counted(*arguments):
        try:
            return join(*arguments)
        finally:
            joined.release()

    store._join = counted
    source.gate.clear()
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(store.ensure, image, 0) for _ in range(count)]
        for _ in range(count):
            assert joined.acquire(timeout=60)
        source.gate.set()
    store._join = join
    return asked


def test_waiting_callers_share_one_fetch(engine, tmp_path):
    source = Source()
    asked = all_at_once(make(engine, source, tmp_path), source, IMAGE, 5)
    assert [result.result().engine_id for result in asked] == [ENGINE_ID] * 5
    assert (source.count, engine.loads) == (1, 1)


def test_an_image_that_is_there_does_not_wait_for_slow_downloads_of_others(engine, tmp_path):
    source = Source()
    store = make(engine, source, tmp_path)
    store.ensure(IMAGE, 0)
    source.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(store.ensure, Image(id=name, name=name), 0) for name in ("slow-1", "slow-2", "slow-3")]
        try:
            while source.count < 3:  # the first image's, and as many as there are slots
                assert source.waiting.wait(60)
            assert pool.submit(store.ensure, IMAGE, 0).result(timeout=60).engine_id == ENGINE_ID
        finally:
            source.gate.set()
    assert all(each.result().engine_id == ENGINE_ID for each in slow)


def test_a_failure_is_shared_and_then_forgotten(engine, tmp_path):
    source = Source(b"no tar at all")
    store = make(engine, source, tmp_path)
    image = Image(id="x", name="x")
    asked = all_at_once(store, source, image, 3)
    assert all(isinstance(result.exception(), ImageRejected) for result in asked)
    assert (source.count, engine.content, store._flights) == (1, {}, {})
    source.data = DATA
    assert store.ensure(image, 0).engine_id == ENGINE_ID


def test_a_failing_download_is_the_callers_to_see(engine, tmp_path):
    def broken(image):
        raise ConnectionResetError

    store = make(engine, broken, tmp_path)
    with pytest.raises(ConnectionResetError):
        store.ensure(IMAGE, 0)
    assert not store._flights


def test_an_image_larger_than_the_disk_is_refused_also_when_it_is_there(engine, tmp_path):
    big = docker_save([tar([("etc/x", bytes(100_000))])])
    image = Image(id="big", name="big")
    store = make(engine, Source(big), tmp_path)
    with pytest.raises(ImageRejected, match="more than"):
        store.ensure(image, 50_000)
    assert store.ensure(image, 200_000)
    with pytest.raises(ImageRejected, match="larger disk"):
        store.ensure(image, 500)


def test_one_with_a_larger_disk_does_not_share_the_refusal_of_a_smaller_one(engine, tmp_path):
    source = Source(docker_save([tar([("etc/x", bytes(100_000))])]))
    source.gate.clear()
    store = make(engine, source, tmp_path)
    image = Image(id="big", name="big")
    with ThreadPoolExecutor(2) as pool:
        small = pool.submit(store.ensure, image, 50_000)
        assert source.waiting.wait(60)
        large = pool.submit(store.ensure, image, 200_000)
        source.gate.set()
        assert isinstance(small.exception(), ImageRejected)
        assert large.result().size > 100_000


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_a_download_of_another_length_is_refused(engine, tmp_path, size):
    image = Image(id="x", name="x", size=size)
    with pytest.raises(ImageRejected, match="Glance sent"):
        make(engine, Source(), tmp_path).ensure(image, 0)
    assert engine.content == {}


def test_an_engine_that_names_another_id_is_not_believed(engine, tmp_path):
    engine.wrong_id = True
    with pytest.raises(ImageRejected, match="instead of"):
        make(engine, Source(), tmp_path).ensure(IMAGE, 0)
    assert engine.tags == {}


def test_without_a_checksum_the_id_is_enough(engine, tmp_path):
    source = Source()
    store = make(engine, source, tmp_path)
    for checksum in (None, "not a checksum!"):
        store.ensure(Image(id="x", name="x", checksum=checksum), 0)
    assert source.count == 1


def test_a_shared_content_goes_with_its_last_image(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    other = Image(id="other", name="other", checksum=IMAGE.checksum, size=IMAGE.size)
    store.ensure(IMAGE, 0)
    store.ensure(other, 0)
    store.remove(IMAGE.id)
    assert engine.image(ENGINE_ID).tags
    store.remove(other.id)
    store.remove(other.id)
    assert (engine.content, engine.tags) == ({}, {})


def test_a_sweep_empties_the_workspace(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    left = tmp_path / "workspace" / "spool-dead"
    left.write_bytes(b"x")
    store.sweep()
    assert not left.exists()


def test_an_image_is_fetched_ahead_once(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    assert store.fetch_ahead(IMAGE)
    assert not store.fetch_ahead(IMAGE)


DAY = 24 * 3600


@pytest.mark.parametrize(("age", "remains"), [(DAY - 1, True), (DAY, False)])
def test_an_unused_image_goes_when_it_is_old_enough(engine, tmp_path, age, remains):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    report = store.age_out((), DAY, age, remove=True)
    assert (ENGINE_ID in engine.content) is remains
    assert (report.images, report.used, report.removed) == (1, 0, int(not remains))


def test_an_image_ages_from_when_it_was_last_seen_in_use(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    engine.used = frozenset({ENGINE_ID})
    engine.now = 10 * DAY
    assert store.age_out((), DAY, engine.now, remove=True).used == 1
    engine.used = frozenset()
    store.age_out((), DAY, 11 * DAY - 1, remove=True)
    assert engine.content
    store.age_out((), DAY, 11 * DAY, remove=True)
    assert (engine.content, engine.tags) == ({}, {})


def test_an_image_that_a_server_names_stays_although_no_container_is_there(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    assert str(store.age_out({IMAGE.id}, 0, DAY, remove=True)) == "1 images with 0 MiB, 1 in use"
    assert engine.content


def test_an_image_that_was_just_fetched_stays_whatever_the_options_say(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    store.age_out((), 0, 599, remove=True)
    assert engine.content
    store.age_out((), 0, 600, remove=True)
    assert not engine.content


def test_nothing_is_removed_where_the_operator_wants_it_so(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    assert store.age_out((), 0, DAY, remove=False).images == 1
    assert engine.content


def test_names_of_others_stay(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    engine.tags["operators/own:1"] = ENGINE_ID
    engine.content["sha256:foreign"] = {}
    engine.tags["busybox:latest"] = "sha256:foreign"
    store.age_out((), 0, DAY, remove=True)
    assert engine.tags == {"operators/own:1": ENGINE_ID, "busybox:latest": "sha256:foreign"}


def test_a_container_that_came_meanwhile_keeps_its_image(engine, tmp_path):
    store = make(engine, Source(), tmp_path)
    store.ensure(IMAGE, 0)
    listed, engine.used_images = frozenset(), lambda: listed
    engine.used = frozenset({ENGINE_ID})
    assert store.age_out((), 0, DAY, remove=True).removed == 0
    assert engine.content


def test_a_download_that_falls_silent_ends_in_time(engine, tmp_path):
    gate = threading.Event()

    def silent(image):
        yield DATA[:1000]
        assert gate.wait(120)

    store = ImageStore(engine, silent, tmp_path / "w", ImageLimits(), timeout=1, architecture="x86_64")
    store.sweep()
    try:
        with pytest.raises(FetchTimeout, match="not here within 1 s; the host was still downloading"):
            store.ensure(IMAGE, 0)
    finally:
        gate.set()
    assert engine.content == {}
    assert list((tmp_path / "w").iterdir()) == []


def test_an_engine_that_takes_too_long_is_not_waited_for(engine, tmp_path, monkeypatch):
    def slow(chunks, deadline):
        assert deadline - time.monotonic() <= 60
        raise EngineTooSlow("not in time")

    monkeypatch.setattr(engine, "load_image", slow)
    store = ImageStore(engine, Source(), tmp_path / "w", ImageLimits(), timeout=60, architecture="x86_64")
    store.sweep()
    with pytest.raises(FetchTimeout, match="still loading"):
        store.ensure(IMAGE, 0)
    assert list((tmp_path / "w").iterdir()) == []


def test_as_many_images_are_fetched_side_by_side_as_the_option_says(engine, tmp_path):
    source = Source()
    source.gate.clear()
    store = ImageStore(engine, source, tmp_path / "w", ImageLimits(), parallel=3, architecture="x86_64")
    store.sweep()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(store.ensure, Image(id=name, name=name), 0) for name in ("a", "b", "c", "d")]
        try:
            while source.count < 3:
                assert source.waiting.wait(60)
            assert source.count == 3
        finally:
            source.gate.set()
    assert all(each.result().engine_id == ENGINE_ID for each in asked)

# SPDX-License-Identifier: Apache-2.0
"""500 hostile archives, through the driver's image store into a real engine: refused, in little time and memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from private_engine import wait_for

import hostile_archives
from dockstack.compute.engine import EngineUnavailable
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.model import Image
from dockstack.oci.documents import ImageRejected, go_architecture
from dockstack.oci.streams import ImageLimits
from image_archives import config, docker_save, entry, multi_platform, pieces, sample_layer, sha256, tar

HERE = go_architecture(platform.machine())[0]
SEED = 20261127
SECONDS = 10
MEMORY = 256 << 20
GROWTH = 16 << 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The corpus as files, so that whoever reads it does not have it in memory."""
    directory = tmp_path_factory.mktemp("corpus")
    for name, data in hostile_archives.corpus(SEED):
        (directory / name).write_bytes(data)
    (directory / "warm-up").write_bytes(docker_save([sample_layer("warm-up")]))
    return directory


def traces(private_engine) -> set[str]:
    """What the engine keeps of images, beside its list of them: layers, content, half-unpacked archives."""
    data = private_engine.directory / "data"
    kept = [*data.glob("image/*/layerdb/sha256/*"), *data.glob("image/*/imagedb/content/sha256/*"), *data.glob("tmp/*")]
    return {str(path.relative_to(data)) for path in kept}


@pytest.mark.timeout(600)
def test_a_corpus_of_hostile_archives(directory, engine, private_engine, tmp_path):
    before, workspace = traces(private_engine), tmp_path / "workspace"
    program = [sys.executable, hostile_archives.__file__, private_engine.url, str(directory), str(workspace)]
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        program, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    verdicts = report["verdicts"]
    assert len(verdicts) == hostile_archives.SIZE

    faults = {name: found for name, found in verdicts.items() if "fault" in found}
    told = {name: found for name, found in faults.items() if found["fault"] in ("ImageRejected", "ImageUnusable")}
    assert set(faults) == set(told), "whatever is wrong with an image, no other host is tried"
    for name, found in told.items():
        assert "cannot be read" not in found["text"], f"{name} surprised a parser: {found['details']}"
        assert found["text"].count(". ") or found["text"].endswith("."), name
    loaded = {name: found["loaded"] for name, found in verdicts.items() if "loaded" in found}
    mutated = [name for name in verdicts if "-mutation-" in name]
    print(Counter(found["fault"] for found in faults.values()), len(loaded), len(mutated))
    slowest = max(told, key=lambda name: told[name]["seconds"])  # of what is sound, most is the engine's time
    print(f"slowest: {slowest}, {told[slowest]['seconds']:.1f} s")
    print(f"checkers' memory: {report['checker'] >> 20} MiB; growth here: {report['growth'] >> 20} MiB")
    assert told[slowest]["seconds"] < SECONDS
    assert report["checker"] < MEMORY
    assert report["growth"] < GROWTH
    assert list(workspace.iterdir()) == []
    assert not Path("/etc/cron.d/x").exists()

    for engine_id in {*loaded.values()}:
        assert engine.image(engine_id).id == engine_id
    for name in [*verdicts, "warm-up"]:
        remove(engine, name)
    assert traces(private_engine) == before


DATA = ("data", os.urandom(48 << 20))
LARGE = tar([DATA])
HELD_BACK = 4096  # bytes of an archive's end: not more than its documents and its end mark


def going_ahead(private_engine) -> int:
    """How much of an archive that is still on its way the engine has already."""
    files = private_engine.directory.glob("data/tmp/docker-import-*/*")
    return sum(path.stat().st_size for path in files)


def fetch(engine, workspace: Path, data: bytes, at_the_end) -> str:
    """Load an image, and do something when all but the end of it has come; return the engine's id."""

    def download(image: Image):
        yield from pieces(data[:-HELD_BACK])
        at_the_end()
        yield from pieces(data[-HELD_BACK:])

    store = ImageStore(engine, download, workspace, ImageLimits(max_unpacked_bytes=100 << 20))
    store.sweep()
    try:
        return store.ensure(Image(id="large", name="large", size=len(data)), 0).engine_id
    finally:
        assert list(workspace.iterdir()) == []


REFUSED = {
    "hostile-at-its-end": (lambda: docker_save([tar([DATA, entry("disk", b"4")])]), "device node"),
    "wrong-digest": (lambda: docker_save([LARGE], raw_config=config([sample_layer()])), "not what its digest"),
    "another-platform": (lambda: multi_platform({"s390x": [LARGE]}, compress="plain"), "s390x"),
    "cut-off": (lambda: docker_save([LARGE]), "broke off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_stays_of_what_went_ahead_of_a_refusal(name, engine, private_engine, tmp_path):
    before, images = traces(private_engine), engine.images()
    build, speaks_of = REFUSED[name]
    seen = []

    def wait():
        seen.append(wait_for(lambda: going_ahead(private_engine) >= 40 << 20, "the engine's part"))
        if name == "cut-off":
            raise BrokenPipeError("the download broke off")

    with pytest.raises((ImageRejected, BrokenPipeError), match=speaks_of) as caught:
        fetch(engine, tmp_path, build(), wait)
    assert seen
    assert (caught.type is BrokenPipeError) is (name == "cut-off")
    wait_for(lambda: traces(private_engine) == before, "the engine's tidying up")
    assert engine.images() == images


def test_what_went_ahead_and_is_needed_becomes_the_image(engine, private_engine, tmp_path):
    """Also where a layer comes twice, and beside one of another platform."""
    layers_of = {"s390x": [tar([("other", os.urandom(8 << 20))])], HERE: [LARGE, sample_layer(), LARGE]}
    data = multi_platform(layers_of, compress="plain")
    before = traces(private_engine)
    engine_id = fetch(engine, tmp_path, data, lambda: wait_for(lambda: going_ahead(private_engine), "its part"))
    assert engine_id == "sha256:" + sha256(config(layers_of[HERE], HERE))
    assert engine.image(engine_id).size > 48 << 20
    remove(engine, "large")
    wait_for(lambda: traces(private_engine) == before, "the engine's tidying up")


def test_an_engine_that_dies_with_half_an_image_is_the_one_to_blame(engine, private_engine, tmp_path):
    before = traces(private_engine)

    def kill():
        wait_for(lambda: going_ahead(private_engine) >= 40 << 20, "the engine's part")
        private_engine.kill()

    try:
        with pytest.raises(EngineUnavailable):
            fetch(engine, tmp_path, docker_save([LARGE]), kill)
    finally:
        private_engine.start()
    wait_for(lambda: traces(private_engine) == before, "the engine's tidying up")
    assert fetch(engine, tmp_path, docker_save([LARGE]), tuple) == "sha256:" + sha256(config([LARGE]))
    remove(engine, "large")


def remove(engine, name: str) -> None:
    """Remove an image by all the names that it was given."""
    found = engine.image(f"dockstack.local/glance:{name}")
    for tag in found.tags if found else ():
        engine.remove_image(tag)

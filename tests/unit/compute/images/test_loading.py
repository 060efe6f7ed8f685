# SPDX-License-Identifier: Apache-2.0
"""An engine is given what it lacks of an image, and all of it where that was not enough."""

from __future__ import annotations

import os
import time

import pytest

from dockstack.compute.engine import EngineError, ImageUnusable
from dockstack.compute.images.loading import load, spared
from dockstack.oci.normalise import ImageLimits, normalise
from image_archives import docker_save, files, pieces, sample_layer, sha256, tar

pytestmark = pytest.mark.unit

BASE = tar([("usr/share/large", os.urandom(9 << 20))])
LAYERS = [BASE, sample_layer()]
IDS = [f"sha256:{sha256(layer)}" for layer in LAYERS]


class Engine:
    """Keeps what it was given."""

    def __init__(self, *stacks, lacks_base=False):
        self.stacks, self.lacks_base = stacks, lacks_base
        self.given = []

    def layer_stacks(self, _deadline):
        return frozenset(self.stacks)

    def load_image(self, chunks, deadline):
        self.given.append({name.rpartition("/")[2] for name in files(b"".join(chunks))})
        if self.lacks_base and sha256(BASE) not in self.given[-1]:
            raise ImageUnusable("no such file", "", "open layer: no such file")
        return ("sha256:it",)


@pytest.fixture
def image(tmp_path):
    data = docker_save(LAYERS)
    with normalise(pieces(data), architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as checked:
        yield checked


def loaded(engine, image):
    assert load(engine, image, time.monotonic() + 60) == ("sha256:it",)
    return [{sha256(layer) for layer in LAYERS} & given for given in engine.given]


def test_a_base_that_the_engine_has_is_not_sent(image):
    assert image.layers == tuple(IDS)
    assert loaded(Engine((IDS[0],), ("sha256:else",)), image) == [{sha256(LAYERS[1])}]


def test_another_base_counts_for_nothing(image):
    assert loaded(Engine(("sha256:else", *IDS)), image) == [set(map(sha256, LAYERS))]


def test_a_base_that_was_removed_meanwhile_is_sent(image):
    assert loaded(Engine((IDS[0],), lacks_base=True), image) == [{sha256(LAYERS[1])}, set(map(sha256, LAYERS))]


def test_an_engine_that_does_not_tell_what_it_has_gets_all(image):
    engine = Engine()
    engine.layer_stacks = lambda _: (_ for _ in ()).throw(EngineError("layer does not exist", ""))
    assert loaded(engine, image) == [set(map(sha256, LAYERS))]


def test_an_image_that_the_engine_cannot_use_is_tried_once(image):
    engine = Engine(lacks_base=True)
    engine.load_image = lambda *_: engine.given.append({}) or (_ for _ in ()).throw(ImageUnusable("broken", ""))
    with pytest.raises(ImageUnusable):
        load(engine, image, time.monotonic() + 60)
    assert len(engine.given) == 1


@pytest.mark.parametrize(
    ("layers", "stacks", "expected"),
    [
        pytest.param("abc", ["ab", "abd"], "ab", id="the-longest-beginning"),
        pytest.param("abc", ["bc", ""], "", id="no-beginning"),
        pytest.param("abca", ["abx"], "b", id="a-layer-that-comes-again"),
        pytest.param("ab", ["abc"], "ab", id="all-of-it"),
        pytest.param("ab", [], "", id="an-empty-engine"),
    ],
)
def test_layers_are_known_by_all_below_them(layers, stacks, expected):
    assert spared(layers, stacks) == set(expected)

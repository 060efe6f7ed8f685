# SPDX-License-Identifier: Apache-2.0
"""Whatever the tools of the world write boots, or is refused with the true reason: legal, odd and rare archives."""

from __future__ import annotations

import json

import pytest

import legal_archives
from dockstack.oci.normalise import ImageLimits, ImageRejected, normalise
from image_archives import files, pieces, sha256
from legal_archives import CASES, Maker
from odd_archives import ODD
from rare_archives import DUPLICATES, RARE

pytestmark = pytest.mark.unit

LIMITS = ImageLimits(max_unpacked_bytes=64 << 20, max_spooled_bytes=512 << 20)


def engines_archive(data: bytes, tmp_path) -> dict[str, bytes]:
    with normalise(pieces(data), architecture="x86_64", limits=LIMITS, workspace=tmp_path) as image:
        found = files(b"".join(image.stream()))
        assert f"sha256:{sha256(configuration(found))}" == image.engine_id
        return found


def configuration(found: dict[str, bytes]) -> bytes:
    return found[json.loads(found["manifest.json"])[0]["Config"]]


ALL = CASES | ODD | RARE
# What the engine refuses itself, with its own words; tests/docker has these
BY_THE_ENGINE = {
    name
    for name, case in RARE.items()
    if case.refused in {DUPLICATES, "parsing time", "no such file", "file exists", "too long"}
}


@pytest.mark.parametrize("name", sorted(ALL.keys() - BY_THE_ENGINE))
@pytest.mark.parametrize("seed", [legal_archives.SEED, 1])
def test_it_boots_or_the_true_reason_is_said(name, seed, tmp_path):
    case = ALL[name]
    data = case.build(Maker(seed))
    if case.refused:
        with pytest.raises(ImageRejected, match=case.refused) as caught:
            engines_archive(data, tmp_path)
        assert caught.value.resolution
        return
    found = engines_archive(data, tmp_path)
    layers = [found[path] for path in json.loads(found["manifest.json"])[0]["Layers"]]
    document = {name.lower(): value for name, value in json.loads(configuration(found)).items()}
    said = document["rootfs"]["diff_ids"]
    assert [f"sha256:{sha256(layer)}" for layer in layers] == said
    assert b"bin/busybox" in layers[0], "it is the image that runs, not what refers to it"


def test_the_corpus_is_large_and_the_same_for_a_seed():
    assert len(CASES) >= 40
    assert legal_archives.corpus(7) == legal_archives.corpus(7)


def test_what_an_application_keeps_at_its_root_is_part_of_it(tmp_path):
    found = engines_archive(CASES["rootfs-layout"].build(Maker(1)), tmp_path)
    [path] = json.loads(found["manifest.json"])[0]["Layers"]
    assert {"index.json", "oci-layout", "bin/busybox"} <= files(found[path]).keys()


def test_a_host_runs_its_own_before_what_it_runs_besides(tmp_path):
    build = legal_archives.platforms(("386", ""), ("amd64", "v2"), ("amd64", ""))
    for seed in range(5):
        assert json.loads(configuration(engines_archive(build(Maker(seed)), tmp_path)))["architecture"] == "amd64"


def test_a_layer_of_a_broken_compression_is_replaced_by_its_whole_twin(tmp_path):
    """Copies often take one compression along; the other's layers are missing."""
    data = legal_archives.dual_compression(Maker(3))
    kept = {name: blob for name, blob in files(data).items() if not blob.startswith(b"\x1f\x8b")}
    assert len(kept) < len(files(data))
    engines_archive(legal_archives.tar(kept.items()), tmp_path)

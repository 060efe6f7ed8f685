# SPDX-License-Identifier: Apache-2.0
"""500 hostile archives, through the driver's image store into a real engine: refused, in little time and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import hostile_archives
import image_archives
from image_archives import docker_save, sample_layer

SEED = 20261127
SECONDS = 10  # of a processor; what the clock says depends on who else is at work
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


def outside(*directories: Path) -> dict[Path, object]:
    """What is where the corpus's names would lead, from one of these directories or any above it.

    The names are taken from the text of the generators, so that none is forgotten. A new link to a file counts, too.
    """
    text = "".join(Path(module.__file__).read_text() for module in (hostile_archives, image_archives))
    names = set(re.findall(r"(?:\.\./)+(\w[\w./]*)", text))
    assert {"x", "etc/cron.d/x", "etc/passwd", "etc/shadow"} <= names
    bases = {base for directory in directories for base in (directory, *directory.parents)}
    return {base / name: state(base / name) for base in bases for name in names}


def state(path: Path) -> object:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mode, found.st_nlink, found.st_size, found.st_ctime_ns


def test_an_escape_would_be_seen(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    before = outside(inner)
    (tmp_path / "etc" / "shadow").write_text("x")
    made = outside(inner)
    assert [path for path in made if made[path] != before[path]] == [tmp_path / "etc" / "shadow"]
    (inner / "y").hardlink_to(tmp_path / "etc" / "shadow")
    assert outside(inner) != made


@pytest.mark.timeout(1500)
def test_a_corpus_of_hostile_archives(directory, engine, private_engine, tmp_path):
    before, workspace = traces(private_engine), tmp_path / "workspace"
    program = [sys.executable, hostile_archives.__file__, private_engine.url, str(directory), str(workspace)]
    paths = [path for path in sys.path if path]
    reachable = (workspace, private_engine.directory / "data", Path.cwd())
    there = outside(*reachable)
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
    assert set(report["computing"]) == set(verdicts), "each archive was checked in a process of its own"
    slowest = max(told, key=lambda name: told[name]["seconds"])  # of what is sound, most is the engine's time
    longest = max(report["computing"], key=report["computing"].get)
    print(f"slowest refusal: {slowest}, {told[slowest]['seconds']:.1f} s by the clock")
    print(f"longest check: {longest}, {report['computing'][longest]:.1f} s of a processor")
    print(f"checkers' memory: {report['checker'] >> 20} MiB; growth here: {report['growth'] >> 20} MiB")
    assert report["computing"][longest] < SECONDS
    assert report["checker"] < MEMORY
    assert report["growth"] < GROWTH
    assert list(workspace.iterdir()) == []
    assert outside(*reachable) == there

    for engine_id in {*loaded.values()}:
        assert engine.image(engine_id).id == engine_id
    for name in [*verdicts, "warm-up"]:
        remove(engine, name)
    assert traces(private_engine) == before


def remove(engine, name: str) -> None:
    """Remove an image by all the names that it was given."""
    found = engine.image(f"dockstack.local/glance:{name}")
    for tag in found.tags if found else ():
        engine.remove_image(tag)

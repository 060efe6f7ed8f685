# SPDX-License-Identifier: Apache-2.0
"""One set of locks serves each Python that dockstack accepts, and all who decide on that agree."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from tools import lock as tool

import locks
from dockstack.deploy.node.own_package import lock_text
from dockstack.deploy.run import preflight
from dockstack.deploy.wanted.catalogue import CATALOGUE

pytestmark = pytest.mark.unit

ALL = {each.file: each for each in tool.locks()}


@pytest.mark.parametrize("file", ALL)
def test_every_pin_has_hashes(file):
    for requirement, hashes in locks.entries(locks.LOCKS / file):
        assert hashes, requirement.name
        assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes), requirement.name


@pytest.mark.parametrize("python", locks.PYTHONS)
@pytest.mark.parametrize("file", ALL)
def test_all_that_is_asked_for_is_there_on_each_python(file, python):
    there = locks.pins(locks.LOCKS / file, python)
    for requirement in locks.asked(*ALL[file].asked_by):
        assert requirement.specifier.contains(there[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("python", locks.PYTHONS)
@pytest.mark.parametrize("file", ["cli.txt", "test.txt"])
def test_nothing_that_these_packages_want_is_missing(file, python):
    """The running environment knows it of these two; tests/functional/test_locks.py asks for the services."""
    assert locks.missing(locks.LOCKS / file, python, locks.asked(*ALL[file].asked_by)) == set()


@pytest.mark.parametrize("file", [file for file, lock in ALL.items() if "openstack.in" in lock.asked_by])
def test_webob_has_the_module_that_python_3_13_gave_up(file):
    having = {python for python in locks.PYTHONS if "legacy-cgi" in locks.pins(locks.LOCKS / file, python)}
    assert having == {"3.13", "3.14"}


@pytest.mark.parametrize("python", locks.PYTHONS)
@pytest.mark.parametrize("file", [file for file, lock in ALL.items() if lock.agrees_with])
def test_a_lock_agrees_with_the_one_that_it_stands_on(file, python):
    there, base = (locks.pins(locks.LOCKS / each, python) for each in (file, ALL[file].agrees_with))
    both = there.keys() & base.keys()
    assert {name: there[name] for name in both} == {name: base[name] for name in both}


def test_every_lock_is_made_by_the_tool():
    assert {str(path.relative_to(locks.LOCKS)) for path in locks.LOCKS.rglob("*.txt")} == set(ALL)


def test_a_release_can_be_chosen_when_it_has_a_lock():
    (release,) = (attribute for attribute in CATALOGUE if attribute.name == "release")
    assert {f"{choice}/openstack.txt" for choice in release.choices} == {each for each in ALL if "/openstack" in each}
    assert all("\nnova==" in lock_text(f"{choice}/openstack") for choice in release.choices)


def test_launcher_preflight_and_package_accept_the_pythons_of_the_locks():
    wanted = SpecifierSet(locks.requires_python())
    accepted = [f"3.{minor}" for minor in range(30) if Version(f"3.{minor}.1") in wanted]
    assert tuple(accepted) == locks.PYTHONS
    launcher = runpy.run_path(str(locks.CHECKOUT / "tools/bootstrap.py"))
    ends = [tuple(map(int, python.split("."))) for python in (locks.PYTHONS[0], locks.PYTHONS[-1])]
    assert [launcher["OLDEST_PYTHON"], launcher["NEWEST_PYTHON"]] == ends
    assert ends == [preflight.OLDEST_PYTHON, preflight.NEWEST_PYTHON]
    assert tool.oldest_python() == locks.PYTHONS[0]


def test_the_launcher_passes_over_a_python_that_has_no_lock():
    launcher = runpy.run_path(str(locks.CHECKOUT / "tools/bootstrap.py"))
    find = launcher["find_python"]
    assert Path(find()).exists()
    find.__globals__["NEWEST_PYTHON"] = (3, 0)
    with pytest.raises(SystemExit, match=r"3\.11 to 3\.14"):
        find()

# SPDX-License-Identifier: Apache-2.0
"""Read the locks as an installer does: under each Python, what a lock pins, and what its packages want beside them."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[1]
LOCKS = CHECKOUT / "src/dockstack/deploy/locks"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def requires_python() -> str:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["requires-python"]


def machine(python: str) -> dict[str, str]:
    """What markers ask for, on the Linux machines that dockstack is for."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "extra": "",
    }


def entries(lock: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Each pin of a lock, whatever its marker, with its hashes."""
    for entry in re.findall(r"^[\w.-]+==.*(?:\n    --hash=.*)*", lock.read_text(), re.MULTILINE):
        first, *rest = entry.split("\\\n")
        yield Requirement(first.strip()), [line.strip().partition(":")[2] for line in rest]


def pins(lock: Path, python: str) -> dict[str, str]:
    """Package -> version, as installed on one Python; a package that is pinned twice there is an error."""
    found: dict[str, str] = {}
    for requirement, _ in entries(lock):
        if requirement.marker is None or requirement.marker.evaluate(machine(python)):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{lock.name} pins {name} twice on Python {python}"
            (specifier,) = requirement.specifier
            found[name] = specifier.version
    return found


def asked(*files: str) -> list[Requirement]:
    """What ``.in`` files ask for, and those that they name."""
    found = []
    for file in files:
        for line in (LOCKS / file).read_text().splitlines():
            if line.startswith("-r "):
                found += asked(line.removeprefix("-r ").strip())
            elif line and not line.startswith("#"):
                found.append(Requirement(line))
    return found


def missing(lock: Path, python: str, wanted: list[Requirement]) -> set[str]:
    """What a lock lacks on one Python, or has in a version that does not do.

    What a package wants is read where it is installed in the running environment; of one that is not, nothing is known.
    What one would want that the lock lacks does not count.
    """
    there, found, seen = pins(lock, python), set(), set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in there or not requirement.specifier.contains(there[name], prereleases=True):
            found.add(str(requirement))
        if name not in there:
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                wanted += _wanted_by(name, extra, python)
    return found


def _wanted_by(package: str, extra: str, python: str) -> list[Requirement]:
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    under = machine(python) | {"extra": extra}
    every = [Requirement(line) for line in lines]
    return [each for each in every if each.marker is None or each.marker.evaluate(under)]

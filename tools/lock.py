# SPDX-License-Identifier: Apache-2.0
"""Make the locks again: every version pinned, with hashes, for each Python that pyproject.toml allows.

Run it as ``.venv/bin/python tools/lock.py``. A pin stays as long as what the ``.in`` files ask for permits it, so that
a run without arguments changes nothing but what an edit made necessary. Arguments go on to ``uv pip compile``, as in
``tools/lock.py --upgrade-package cryptography``.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCKS = CHECKOUT / "src/dockstack/deploy/locks"


@dataclass(frozen=True)
class Lock:
    """A lock: its file below the folder of locks, what asks for its contents, and the lock that it agrees with.

    One that is ``alone`` has only what is asked for by name, without what that would bring. ``without`` names a file of
    requirements that are not met, as nothing of ours uses them.
    """

    file: str
    asked_by: tuple[str, ...]
    agrees_with: str | None = None
    alone: bool = False
    without: str | None = None


def locks() -> list[Lock]:
    """Return all locks; one that agrees with another comes after it."""
    found = [
        Lock("cli.txt", ("cli.in",)),
        Lock("test.txt", ("test.in",), "cli.txt"),
        Lock("tempest.txt", ("tempest.in",)),
    ]
    for services in sorted(LOCKS.glob("*/services.in")):
        release = services.parent.name
        asked_by = (f"{release}/services.in", "openstack.in")
        without = f"{release}/without.in" if (services.parent / "without.in").exists() else None
        functional = (*asked_by, "functional.in")
        found += [
            Lock(f"{release}/openstack.txt", asked_by, without=without),
            Lock(f"{release}/functional.txt", functional, f"{release}/openstack.txt", without=without),
            Lock(f"{release}/ceilometer.txt", (f"{release}/ceilometer.in",), alone=True),
        ]
    return found


def compile_command(lock: Lock, oldest_python: str) -> list[str]:
    """Return uv's command line for one lock.

    It resolves for all Pythons at once (``--universal``), and with one version of a package for all of them wherever
    there is one (``--fork-strategy fewest``): what was tested on one Python is then what runs on another.
    """
    command = [str(Path(sys.prefix) / "bin/uv"), "pip", "compile", "--quiet"]
    command += ["--universal", "--python-version", oldest_python, "--fork-strategy", "fewest"]
    command += ["--generate-hashes", "--no-header", "--no-emit-index-url"]
    if lock.alone:
        command.append("--no-deps")
    if lock.without:
        command += ["--overrides", lock.without]
    if lock.agrees_with:
        command += ["--constraints", lock.agrees_with]
    return [*command, *lock.asked_by, "--output-file", lock.file]


def oldest_python() -> str:
    """Return the oldest Python that pyproject.toml allows, as "3.11"."""
    wanted: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["requires-python"]
    return next(part.removeprefix(">=") for part in wanted.split(",") if part.startswith(">="))


def main(arguments: list[str]) -> None:
    """Make one lock after the other; the first that cannot be made ends it."""
    for lock in locks():
        sys.stdout.write(f"{lock.file}\n")
        subprocess.run([*compile_command(lock, oldest_python()), *arguments], cwd=LOCKS, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""Make the environment in which the driver runs inside Nova's own code.

The driver's door is put into that environment's Nova, and this checkout's ``src`` on its path. Nothing is done twice: a
stamp holds the hash of the lock. ``--release 2026.1`` makes one with that release's Nova, beside the other.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from dockstack.deploy import door

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "src/dockstack/deploy/locks"
RELEASES = tuple(sorted(lock.parent.name for lock in LOCKS.glob("*/functional.txt")))
INTERPRETER = "/usr/bin/python3"


def environment_of(release: str) -> Path:
    """Return where a release's environment is; the newest's has the short name."""
    return ROOT / (".venv-functional" if release == RELEASES[-1] else f".venv-functional-{release}")


def prepare(release: str) -> Path:
    """Make a release's environment unless it is there and fresh; return its Python.

    Two calls at once wait for each other. One that was killed half-way leaves no stamp, so the next starts over.

    Raises:
        FileNotFoundError: there is no ``uv``.
        subprocess.CalledProcessError: uv could not make the environment; its output says why.
    """
    environment, lock = environment_of(release), LOCKS / release / "functional.txt"
    alone = lock.with_name("ceilometer.txt")
    python = environment / "bin/python"
    stamp = environment / "dockstack-stamp"
    wanted = hashlib.sha256(lock.read_bytes() + alone.read_bytes()).hexdigest()
    cache = environment.parent / ".pytest_cache"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{environment.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == wanted and python.exists()):
            _install(environment, python, lock, alone)
            stamp.write_text(wanted)
        _join(environment)
    return python


def _install(environment: Path, python: Path, lock: Path, alone: Path) -> None:
    """Install a lock and a further one, all that they name and nothing that its packages want besides."""
    beside = Path(sys.prefix) / "bin/uv"  # the test environment's own
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise FileNotFoundError(f"{beside} is missing: run this with the test environment's Python (CONTRIBUTING.md)")
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([uv, "venv", "--quiet", "--python", INTERPRETER, str(environment)], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "--no-deps"]
    subprocess.run([*install, "-r", str(lock)], check=True)
    subprocess.run([*install, "-r", str(alone)], check=True)


def _join(environment: Path) -> None:
    """Join this checkout to the environment; every step may be there already."""
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    (packages / "dockstack-checkout.pth").write_text(f"{ROOT / 'src'}\n")
    door.install(str(environment / "bin/python"))
    # Nova's test fixtures look for api-paste.ini beside the package, where a checkout of Nova has it.
    (packages / "etc").mkdir(exist_ok=True)
    _symlink(packages / "etc/nova", environment / "etc/nova")


def _symlink(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the environment of the functional tests; print its Python.")
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[-1], help="whose Nova (default: %(default)s)")
    sys.stdout.write(f"{prepare(parser.parse_args().release)}\n")

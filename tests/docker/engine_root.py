# SPDX-License-Identifier: Apache-2.0
"""The engine of another Debian: its packages unpacked below a directory, with the libraries that they need.

An engine from there sees this machine with another ``/usr`` (``private_engine``). No script of a package runs, and
nothing but its files is there, so a root is made in a minute. It is kept outside the checkout and made anew every week,
as suites move, and when its recipe changes.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path(os.environ.get("DOCKSTACK_ENGINES", "/var/cache/dockstack-engines"))
SUITES = ("trixie", "sid")
# The engine, and what it calls for layers; what the runtime wrapper is written in, and checks volumes with; what a
# shell needs to start that.
PACKAGES = ("docker.io", "containerd", "runc", "xz-utils", "python3", "e2fsprogs", "dash", "coreutils", "mount")
# A mirror whose copy of sid is some weeks old is as good; who signed it is looked at all the same.
OPTIONS = ("--variant=extract", "--aptopt=Acquire::Check-Valid-Until false")
FRESH = 7 * 24 * 3600  # seconds


def make(suite: str) -> Path:
    """Return a suite's root, made if there is none that is fresh; whoever makes it already is waited for.

    Raises:
        subprocess.CalledProcessError: the packages could not be had; what mmdebstrap wrote says why.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(repr((PACKAGES, OPTIONS)).encode()).hexdigest()[:12]
    root, part = CACHE / f"{suite}-{recipe}", CACHE / f"{suite}-{recipe}.part"
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists() or time.time() - root.stat().st_mtime > FRESH:
            shutil.rmtree(part, ignore_errors=True)
            command = ["mmdebstrap", "--quiet", *OPTIONS, f"--include={','.join(PACKAGES)}", suite, str(part)]
            subprocess.run(command, check=True, stdout=sys.stderr)
            os.utime(part)  # it has the time that its packages gave it
            for old in (entry for entry in CACHE.glob(f"{suite}-*") if entry != part):
                shutil.rmtree(old)
            part.rename(root)
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch the engine of a Debian suite; print the root that it is in.")
    parser.add_argument("suite", choices=SUITES)
    sys.stdout.write(f"{make(parser.parse_args().suite)}\n")

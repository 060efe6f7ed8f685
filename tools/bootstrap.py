# SPDX-License-Identifier: Apache-2.0
"""Bootstrap: make dockstack's own environment in the checkout, then run the command line in it.

Needs nothing but Python and, on a fresh Debian, apt. The environment is keyed by the lock's hash: nothing is done when
it is current, an interrupted one is completed, two bootstraps at once wait for each other.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

CHECKOUT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)  # those that the locks are for; as in pyproject.toml
LOCKS = CHECKOUT / "src/dockstack/deploy/locks"
# The distribution's, which users other than root may run too; else the one that runs this file
PYTHONS = ("/usr/bin/python3", sys.executable)


def fail(happened: str, cure: str) -> NoReturn:
    """End with two sentences and status 1."""
    sys.exit(f"error: {happened}\nwhat to do: {cure}")


def find_python() -> str:
    """Return the first Python that the locks are for."""
    for python in PYTHONS:
        check = f"import sys; sys.exit(not {OLDEST_PYTHON} <= sys.version_info[:2] <= {NEWEST_PYTHON})"
        if Path(python).exists() and subprocess.run([python, "-c", check], check=False).returncode == 0:
            return python
    fail(
        f"dockstack needs Python 3.11 to 3.14, and there is none of {' and '.join(dict.fromkeys(PYTHONS))}.",
        "On Debian 12 or 13, as root: apt-get install python3 python3-venv; then run this again.",
    )


def choose_environment() -> Path:
    """`.venv` in the checkout; a user who may not write there gets one in the cache directory."""
    if os.access(CHECKOUT, os.W_OK):
        return CHECKOUT / ".venv"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dockstack" / hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]


def make_environment(environment: Path) -> None:
    """Make an empty virtual environment; install Debian's python3-venv if it is missing and we may."""
    python = find_python()
    command = [python, "-m", "venv", "--clear", str(environment)]
    if subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode != 0:
        apt = shutil.which("apt-get")
        if os.geteuid() != 0 or apt is None:
            fail("Python's venv module is incomplete.", "As root: apt-get install python3-venv; then run this again.")
        print("Installing python3-venv ...", file=sys.stderr, flush=True)
        subprocess.run([apt, "update", "-q"], stdout=subprocess.DEVNULL, check=False)
        install = [apt, "install", "-qy", "--no-install-recommends", "python3-venv"]
        quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        if subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            fail("apt-get could not install python3-venv.", "See its message above; then run this again.")
    if subprocess.run(command, check=False).returncode != 0:
        fail(f"The environment {environment} could not be made.", "Check disk space and permissions; then run again.")


def install_lock(environment: Path, lock: Path) -> None:
    """Install exactly what the lock names, hashes checked, with uv (which the lock itself pins)."""
    python = str(environment / "bin/python")
    text = lock.read_text()
    block = re.search(r"^uv==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    variables = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    if "PIP_INDEX_URL" in variables:
        variables.setdefault("UV_DEFAULT_INDEX", variables["PIP_INDEX_URL"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
        only_uv.write(re.sub(r"\s+#.*", "", block.group(0)) + "\n" if block else "uv\n")
        only_uv.flush()
        pip = [python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", only_uv.name]
        if subprocess.run(pip, env=variables, check=False).returncode != 0:
            fail("The package index did not answer.", "Check the network (or PIP_INDEX_URL); then run this again.")
    uv = [str(environment / "bin/uv"), "pip", "install", "-q", "--python", python, "--require-hashes", "-r", str(lock)]
    if subprocess.run(uv, env=variables, check=False).returncode != 0:
        fail("The locked packages could not be installed.", "See the message above; then run this again.")
    site = next((environment / "lib").glob("python3*/site-packages"))
    (site / "dockstack.pth").write_text(str(CHECKOUT / "src") + "\n")


def prepare(environment: Path, lock: Path) -> None:
    """Bring the environment to the lock, once; the stamp is written last."""
    stamp = environment / f".{lock.stem}-lock"
    wanted = hashlib.sha256(lock.read_bytes() + str(CHECKOUT).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_name(environment.name + ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"Preparing dockstack's environment in {environment} (once) ...", file=sys.stderr, flush=True)
        if not (environment / "bin/pip").exists():
            make_environment(environment)
        install_lock(environment, lock)
        stamp.write_text(wanted)


def remove_old_caches() -> None:
    """Remove `src/nova` if it holds nothing but Python's caches, which git leaves where files have moved away.

    The driver's door was there. Python takes the folder for a package: `import nova` succeeds, and finds nothing.
    """
    old = CHECKOUT / "src/nova"
    if old.is_dir() and all(path.is_dir() or path.parent.name == "__pycache__" for path in old.rglob("*")):
        shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """Prepare, then become the command line."""
    remove_old_caches()
    lock = LOCKS / ("test.txt" if sys.argv[1:2] == ["test"] else "cli.txt")
    environment = choose_environment()
    prepare(environment, lock)
    python = str(environment / "bin/python")
    os.execv(python, [python, "-m", "dockstack.cli", *sys.argv[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()

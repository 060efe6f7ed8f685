# SPDX-License-Identifier: Apache-2.0
"""The running dockstack as files: which version it is, the locks that ship with it, and a wheel of it for elsewhere."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata, resources
from pathlib import Path

from dockstack.errors import DockstackError

EPOCH = (1980, 1, 1, 0, 0, 0)


def lock_text(name: str) -> str:
    """Return a lock that ships with dockstack: "cli", or one of a release, as "2026.2/openstack"."""
    return (resources.files("dockstack.deploy") / "locks" / f"{name}.txt").read_text()


def lock_digest(name: str) -> str:
    """Return the hash that stands in an environment into which a lock was installed whole."""
    return hashlib.sha256(lock_text(name).encode()).hexdigest()


def release_of(digest: str) -> str:
    """Return the OpenStack release whose lock has this hash; "" if it is none that ships with this dockstack."""
    releases = (one.name for one in (resources.files("dockstack.deploy") / "locks").iterdir() if one.is_dir())
    return next((release for release in releases if digest == lock_digest(f"{release}/openstack")), "")


def checkout() -> Path | None:
    """Return the checkout that dockstack runs from, or None if it is installed."""
    root = Path(__file__).resolve().parents[4]
    return root if (root / "pyproject.toml").exists() and (root / "src" / "dockstack").is_dir() else None


def source_hash() -> str:
    """Return the hash of all files that make the running dockstack: a change of code is a change of version.

    It is the same of a checkout and of what was installed from it, so that a run of either finds its work done.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_package_files().items()):
        if not name.startswith("dockstack/"):
            continue  # an installer's notes
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build_wheel() -> bytes:
    """Return a wheel of the running dockstack, built from the checkout or packed from what is installed.

    Raises:
        DockstackError: the checkout does not build.
    """
    root = checkout()
    if root is None:
        return _pack_installed()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        shutil.copytree(root / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            if (root / name).exists():
                shutil.copy(root / name, source / name)
            elif name == "README.md":
                (source / name).write_text("dockstack\n")
        line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
        built = subprocess.run(line, cwd=source, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise DockstackError("dockstack's wheel does not build.", "Is the checkout whole?", built.stderr[-2000:])
        return next(Path(directory).glob("*.whl")).read_bytes()


def named_wheel() -> tuple[str, bytes]:
    """Return the wheel of the running dockstack with the name that installers ask of its file."""
    return wheel_name(), build_wheel()


def wheel_name() -> str:
    """Return the name that installers ask of its file."""
    return f"dockstack-{_version()}-py3-none-any.whl"


def _version() -> str:
    root = checkout()
    if root is None:
        return metadata.version("dockstack")
    lines = (root / "pyproject.toml").read_text().splitlines()
    return next(line.partition("=")[2].strip().strip('"') for line in lines if line.startswith("version"))


def _package_files() -> dict[str, Path]:
    """Return name in the wheel -> file, of the checkout or of the installed distribution."""
    root = checkout()
    if root is not None:
        source = root / "src"
        files = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
        return {name: path for name, path in files.items() if "__pycache__" not in name}
    listed = metadata.distribution("dockstack").files or []
    chosen = [file for file in listed if ".." not in file.parts and "__pycache__" not in file.parts]
    unwanted = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
    return {str(file): Path(str(file.locate())) for file in chosen if file.name not in unwanted}


def _pack_installed() -> bytes:
    """Pack the installed distribution into a wheel again: installing it elsewhere needs no checkout."""
    files = _package_files()
    info = next(name.split("/")[0] for name in files if ".dist-info/" in name)
    with tempfile.TemporaryFile() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, EPOCH), path.read_bytes())
            record = "".join(f"{name},,\n" for name in [*sorted(files), f"{info}/RECORD"])
            archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), record)
        stream.seek(0)
        return stream.read()

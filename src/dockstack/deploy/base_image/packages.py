# SPDX-License-Identifier: Apache-2.0
"""Programs out of the distribution's packages, with the libraries that they need, without installing anything."""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dockstack.errors import DockstackError

_MINUTES = 300  # seconds that apt may take, mirrors being slow at times
_UNPACKERS = 4
# Programs load libraries, and those stand in packages of such names (Debian's policy, 8.1); the rest of a dependency
# tree, Perl above all, is for package scripts, which do not run here.
_LIBRARY = re.compile(r"lib(?!.*perl)")
_RESOLVED = re.compile(r"^\s*(\S+) => (/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)


def architecture() -> str:
    """Return the distribution's name of this machine's architecture ("amd64", "arm64")."""
    return _run(["dpkg", "--print-architecture"]).strip()


def unpack_closure(packages: tuple[str, ...], directory: Path) -> Path:
    """Download packages and the libraries that they depend on, and unpack them below ``directory``.

    Returns:
        the root of the unpacked files; nothing is installed and no package script runs.

    Raises:
        DockstackError: apt cannot get them.
    """
    names = _closure(packages)
    archives, root = directory / "archives", directory / "root"
    archives.mkdir()
    root.mkdir()
    _run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download", *names], cwd=archives
    )
    with ThreadPoolExecutor(_UNPACKERS) as pool:
        list(pool.map(lambda archive: _run(["dpkg-deb", "-x", str(archive), str(root)]), archives.glob("*.deb")))
    return root


def needed_libraries(root: Path, programs: tuple[Path, ...]) -> dict[str, Path]:
    """List the shared libraries of programs, as the dynamic loader inside ``root`` finds them.

    Returns:
        the name that the program asks for (an absolute path for the loader itself) -> the file.
    """
    loader = _loader(root)
    directories = sorted({str(path.parent) for path in root.glob("**/*.so*") if path.is_file()})
    found: dict[str, Path] = {}
    for program in programs:
        text = _run([str(loader), "--library-path", ":".join(directories), "--list", str(program)])
        found.update({name: Path(path) for name, path in _RESOLVED.findall(text)})
    return found


def _closure(packages: tuple[str, ...]) -> list[str]:
    excluded = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    options = [f"--no-{kind}" for kind in excluded]
    text = _run(["apt-cache", "depends", "--recurse", *options, *packages])
    depended = {line for line in text.splitlines() if re.match(r"[a-z0-9]", line)}
    names = sorted(name for name in depended if name in packages or _LIBRARY.match(name))
    missing = [name for name in packages if name not in names]
    if missing:
        raise DockstackError(
            f"The distribution has no package {', '.join(missing)}.",
            "Run `apt-get update`; if that does not help, enable the distribution's main section in its sources.",
        )
    return names


def _loader(root: Path) -> Path:
    """Find the dynamic loader, which is a program of its own that can say what a program would load."""
    for pattern in ("lib/*/ld-linux*.so.*", "usr/lib/*/ld-linux*.so.*", "lib/*/ld64.so.*", "usr/lib/*/ld64.so.*"):
        for path in sorted(root.glob(pattern)):
            return path
    raise DockstackError("The distribution's C library has no dynamic loader where it is expected.")


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        # apt-cache translates its words; the names that we read are the same in every language
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=True, timeout=_MINUTES
        )
    except FileNotFoundError as error:
        raise DockstackError(
            f"{command[0]} is missing.", "The base image is built on Debian or Ubuntu; import another image elsewhere."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DockstackError(
            f"{command[0]} did not end within {_MINUTES} seconds.", "Look whether the package mirror answers."
        ) from error
    except subprocess.CalledProcessError as error:
        raise DockstackError(
            f"{' '.join(command[:2])} failed.",
            "Run `apt-get update` and try again; the package mirror must be reachable.",
            error.stderr[-2000:],
        ) from error
    return done.stdout

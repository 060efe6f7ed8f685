# SPDX-License-Identifier: Apache-2.0
"""Debian's packages of any suite, fetched by this machine's apt as it is configured: proxies, passwords, mirrors.

It has lists and a cache of its own, and believes in an empty system; the machine's are not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.system_image.recipe import KEYRING, Mirrors, machine_mirrors
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much
_HUNDRED = 100
_MEMBER = slice(24, 36)  # ar(5): the time in the header of an archive's first member, behind its eight bytes of magic


def default_mirrors(archive: str | None = None) -> Mirrors:
    """Return the mirrors that this machine itself uses.

    Args:
        archive: one for Debian's own archive that wins over the machine's.

    Raises:
        DockstackError: its apt has none of Debian's, and none was named.
    """
    fields = "\t".join(f"$({name})" for name in ("ORIGIN", "LABEL", "COMPONENT", "REPO_URI"))
    command = ["apt-get", "indextargets", "--format", fields, "Identifier: Packages"]
    found = machine_mirrors("".join(_lines(command)))
    if archive:
        return Mirrors(archive.rstrip("/"), found.security if found else "")
    if found is None:
        raise DockstackError(
            "This machine's apt has no archive of Debian.",
            "Name one with --mirror; if it has one, run `apt-get update` first.",
        )
    return found


class Packages:
    """Apt with a directory of its own, for one suite and architecture."""

    def __init__(self, directory: Path, architecture: str) -> None:
        """Use and keep what is in the directory."""
        self.archives = directory / "archives"
        self._directory = directory
        self._architecture = architecture

    def update(self, sources: str, progress: Progress) -> None:
        """Fetch the lists of packages, as far as they have changed.

        Raises:
            DockstackError: a mirror does not answer or is not to be trusted, or Debian's keys are not here.
        """
        if not Path(KEYRING).exists():
            raise DockstackError(
                f"{KEYRING} is missing: nothing says which packages are Debian's.",
                "Install the package debian-archive-keyring.",
            )
        for name in ("lists/partial", "archives/partial", "none/partial"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        # A mirror's password may be in it.
        descriptor = os.open(self._directory / "sources.list", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(sources)
        self._fetch(["update", "--error-on=any"], "Fetching the lists of packages", progress)

    def resolve(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Return the file names of these packages and of all that they depend on.

        Raises:
            DockstackError: the suite has no such package, or not with what it needs.
        """
        # Apt does not list what it has fetched already: it looks for that where nothing is.
        nowhere = f"Dir::Cache::Archives={self._directory}/none"
        lines = _lines([*self._apt(), "-o", nowhere, "-qq", "--print-uris", "install", *wanted])
        return tuple(sorted(line.split()[1] for line in lines if line.startswith("'")))

    def download(self, wanted: Iterable[str], progress: Progress) -> None:
        """Fetch those packages, as far as they are not here.

        Raises:
            DockstackError: a mirror does not answer, or one of them is not what the lists say.
        """
        self._fetch(["--yes", "--download-only", "install", *wanted], "Fetching packages", progress)

    def forget_old(self) -> None:
        """Remove packages that the mirrors have no more."""
        list(_lines([*self._apt(), "-qq", "autoclean"]))

    def epoch(self, names: Iterable[str]) -> int:
        """Return when the youngest of these packages was made: nothing in them is younger."""
        return max(int((self.archives / name).read_bytes()[_MEMBER].split()[0]) for name in names)

    def _fetch(self, arguments: list[str], title: str, progress: Progress) -> None:
        progress(title, 0, _HUNDRED)
        for line in _lines([*self._apt(), "-qq", "-o", "APT::Status-Fd=1", *arguments]):
            if line.startswith("dlstatus:"):  # apt's progress-reporting.md: dlstatus:file:percent:text
                progress(title, int(float(line.split(":")[2])), _HUNDRED)

    def _apt(self) -> list[str]:
        here = self._directory
        options = (
            *(f"Dir::State={here}", f"Dir::State::status={here}/status"),
            *(f"Dir::Cache={here}", f"Dir::Etc::SourceList={here}/sources.list", "Dir::Etc::SourceParts=/dev/null"),
            # What the machine prefers is meant for the machine.
            *("Dir::Etc::Preferences=/dev/null", "Dir::Etc::PreferencesParts=/dev/null"),
            *(f"APT::Architecture={self._architecture}", f"APT::Architectures={self._architecture}"),
            # Debian's images for containers have this delete what was fetched.
            *("APT::Install-Recommends=false", "APT::Keep-Downloaded-Packages=true"),
            *("APT::Sandbox::User=root", "Acquire::Retries=3", "Acquire::Languages=none"),
        )
        return ["apt-get", *(word for option in options for word in ("-o", option))]


def _lines(command: list[str]) -> Iterator[str]:
    """Run a program of apt's, which ends with this process, and yield its lines.

    Raises:
        DockstackError: it fails, or is not there.
    """
    if shutil.which(command[0]) is None:
        raise missing(command[0])
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - asked for above
            yield from process.stdout
        errors.seek(0)
        said = errors.read()
    if process.returncode:
        raise DockstackError(
            "apt-get cannot get Debian's packages.",
            "Are the mirror and the names of the packages right? The machine's own apt configuration is used.",
            said[-2000:],
        )


def missing(program: str) -> DockstackError:
    """Say that a program is not here."""
    return DockstackError(
        f"{program} is missing.", "Build system images on Debian or Ubuntu, with apt, dpkg, util-linux and tar."
    )

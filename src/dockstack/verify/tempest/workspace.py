# SPDX-License-Identifier: Apache-2.0
"""Tempest's environment and directory on this machine, made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError
from dockstack.verify.tempest import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PYTHON = "/usr/bin/python3"
GROUPED_BY_CLASS = r"([^\.]*\.)*"  # what a class has set up is used by one process


@dataclass(frozen=True)
class Workspace:
    """Where Tempest is installed and runs.

    Attributes:
        directory: belongs to us alone; holds a password.
        configured_by: the name of the file there that Tempest is configured by.
    """

    directory: Path
    configured_by: str = "tempest.conf"

    @property
    def environment(self) -> Path:
        """Tempest's Python environment."""
        return self.directory / "environment"

    @property
    def python(self) -> Path:
        """Tempest's Python."""
        return self.environment / "bin/python"

    @property
    def configuration_file(self) -> Path:
        """Tempest's configuration."""
        return self.directory / self.configured_by

    @property
    def of_signed_images(self) -> Workspace:
        """The same, configured for the tests that boot signed images."""
        return replace(self, configured_by="signed-images.conf")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one run at a time work here: another one would remove the first one's servers.

        Raises:
            DockstackError: another run is at work; the kernel frees the lock when that one dies.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DockstackError("Another run of Tempest is at work.", "Wait until it has ended.") from error
            yield

    def install(self, lock: str, uv: str, variables: Mapping[str, str]) -> None:
        """Have the environment with exactly the versions of a lock.

        Args:
            lock: hashed requirements.
            uv: the program.
            variables: added to the program's environment.

        Raises:
            DockstackError: the packages cannot be had.
        """
        wanted = hashlib.sha256(lock.encode()).hexdigest()
        stamp = self.environment / "dockstack-stamp"
        if stamp.exists() and stamp.read_text() == wanted and self.python.exists():
            return
        shutil.rmtree(self.environment, ignore_errors=True)
        requirements = self.directory / "requirements.txt"
        requirements.write_text(lock)
        install = ["pip", "install", "-q", "--compile-bytecode", "--require-hashes", "--python", str(self.python)]
        for words in (["venv", "-q", "--python", PYTHON, str(self.environment)], [*install, "-r", str(requirements)]):
            done = subprocess.run(
                [uv, *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise DockstackError(
                    "Tempest could not be installed.", "Does the package index answer?", done.stderr[-2000:]
                )
        stamp.write_text(wanted)

    def configure(self, settings: configuration.Settings) -> None:
        """Write Tempest's configuration, for us alone to read."""
        partial = self.configuration_file.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(configuration.render(settings))
        partial.replace(self.configuration_file)

    def tests(self) -> tuple[str, ...]:
        """List the ids of all tests, with their tags; asked of Tempest once for each environment.

        Raises:
            DockstackError: Tempest does not start.
        """
        listed = self.environment / "dockstack-tests"
        if not listed.exists():
            repository = self.directory / "repository"
            if not (repository / ".stestr").exists():
                repository.mkdir(exist_ok=True)
                self._ask("init")
            tests = [line for line in self._ask("list").splitlines() if line.startswith("tempest.")]
            listed.write_text("\n".join(tests))
        return tuple(listed.read_text().splitlines())

    def command(self, *words: str) -> list[str]:
        """Build a call of Tempest's test runner."""
        packages = next((self.environment / "lib").glob("python3*")) / "site-packages"
        places = ["--test-path", str(packages / "tempest/test_discover"), "--top-dir", str(packages)]
        repository = ["--repo-url", str(self.directory / "repository"), "--group-regex", GROUPED_BY_CLASS]
        return [str(self.python), "-m", "stestr", *places, *repository, *words]

    def variables(self) -> dict[str, str]:
        """Return the environment variables by which Tempest finds its configuration."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "TEMPEST_CONFIG_DIR": str(self.directory),
            "TEMPEST_CONFIG": self.configuration_file.name,
            "PYTHONWARNINGS": "ignore",
        }

    def _ask(self, word: str) -> str:
        done = subprocess.run(
            self.command(word), cwd=self.directory, env=self.variables(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DockstackError(f"Tempest's runner failed at `{word}`.", "See below.", done.stderr[-2000:])
        return done.stdout

# SPDX-License-Identifier: Apache-2.0
"""What may be done to a connected node, in a thin layer over pyinfra.

Every method looks first (one cheap command), changes only what differs, returns whether it changed something, and notes
what it makes in the manifest *before* making it, so that ``clean`` finds it even after kill -9. Nothing secret goes
into a command's arguments or environment (other users can read them): secrets travel in files and on stdin.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import time
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.exceptions import NestedOperationError
from pyinfra.api.operation import operation
from pyinfra.context import ctx_host, ctx_state
from pyinfra.operations import apt, dnf

from dockstack.deploy import distributions
from dockstack.deploy.distributions import APT, DNF
from dockstack.deploy.node import accepted, baked_packages
from dockstack.deploy.node.output import (
    CHANGE_LIMIT,
    Output,
    StepFailedError,
    StepHungError,
    shell_line,
    tail,
)
from dockstack.deploy.node.shell import Shell, patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.node.baked import Archive
    from dockstack.deploy.node.connection import Connection
    from dockstack.deploy.node.manifest import Manifest
    from dockstack.deploy.node.secrets import Secrets
    from dockstack.deploy.wanted.inventory import Node

LONGEST_NAME = 200
POLICY = "/usr/sbin/policy-rc.d"
# What each package manager's operation takes: no recommended packages, files of the machine's owner stay as they are.
INSTALLATION: dict[str, tuple[Any, dict[str, Any]]] = {
    APT.program: (
        apt.packages,
        {
            "cache_time": 3600,
            "no_recommends": True,
            "extra_install_args": "-o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold",
            "update": True,
        },
    ),
    DNF.program: (dnf.packages, {"extra_install_args": "--setopt=install_weak_deps=False"}),
}
# `dpkg --configure` and `apt-get update` fail where another one works, such as what a killed run has left at work. The
# locks are let go for the latter, and held for a command that follows; dpkg is told so, as apt tells it.
HOLD_LOCKS = """\
import fcntl, os, subprocess, sys
end = sys.argv.index("--")
held = [open(path, "a") for path in sys.argv[1:end]]
for lock in held:
    fcntl.lockf(lock, fcntl.LOCK_EX)
sys.exit(subprocess.call(sys.argv[end + 1 :], env={**os.environ, "DPKG_FRONTEND_LOCKED": "1"}))
"""
PACKAGES_LIMIT = 900  # seconds for what others install
POLICY_MARK = "# dockstack: services do not start while packages are installed"


def _run_line(_shown: str, line: str) -> Iterator[StringCommand]:
    yield StringCommand(line)


def _put_file(content: bytes, path: str, finish: str) -> Iterator[StringCommand | FileUploadCommand]:
    temporary = f"{path}.dockstack-new"
    quoted = shlex.quote(temporary)
    # New, and root's alone from its first byte: an upload keeps the mode of what it finds, and would follow a link.
    yield StringCommand(f"rm -f {quoted} && umask 077 && set -C && : > {quoted}")
    yield FileUploadCommand(io.BytesIO(content), temporary)
    yield StringCommand(finish)


_execute = operation()(_run_line)
_place = operation()(_put_file)


class Mounted(NamedTuple):
    """A mount, as the kernel tells of it (proc(5), mountinfo)."""

    point: str
    kind: str

    @classmethod
    def of_line(cls, line: str) -> Mounted:
        """Read one line."""
        words = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), words[4])
        return cls(point, words[words.index("-") + 1])


class ConnectedNode(Shell):
    """A node of the inventory, connected: its commands, files, users and packages."""

    def __init__(
        self,
        node: Node,
        secrets: Secrets,
        manifest: Manifest,
        connection: Connection,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Use ``connection.connect(node)`` for the connection."""
        self.node = node
        self.attributes = node.attributes
        self.secrets = secrets
        self.manifest = manifest
        self._connection = connection
        self._state = connection.state
        self._host = connection.host
        self._say = say
        self.changes = 0

    # -- questions ------------------------------------------------------------------------------------------------

    @cached_property
    def distribution(self) -> Distribution:
        """What the node's packages, units, paths and accounts are called.

        Raises:
            DockstackError: it is none that we know, and the attribute names none.
        """
        return distributions.choose(self.attributes.text("distribution"), self.read(distributions.OS_RELEASE) or "")

    @cached_property
    def baked(self) -> Archive | None:
        """The archive from which this machine comes up; None without one, and on every other machine."""
        return accepted.noted(self.attributes) if self.node.connector == "@local" else None

    def exists(self, path: str) -> bool:
        """Tell whether a path is there."""
        return self.run(["test", "-e", path], check=False).ok

    def read(self, path: str) -> str | None:
        """Return a file's text, or None if there is none."""
        output = self.run(["cat", path], check=False)
        return output.stdout if output.ok else None

    def digests(self, paths: Sequence[str]) -> dict[str, str]:
        """Return path -> sha256 of each file's content, "" where there is none; one command for all."""
        if not paths:
            return {}
        found = dict.fromkeys(paths, "")
        for line in self.run(["sha256sum", "--", *paths], check=False).lines:
            digest, _, path = line.partition("  ")
            if path in found:
                found[path] = digest
        return found

    def versions(self, packages: Sequence[str]) -> dict[str, str]:
        """Return package -> installed version, "" where it is not installed; one command for all."""
        if not packages:
            return {}
        found = dict.fromkeys(packages, "")
        for line in self.run([*self.distribution.manager.versions, *packages], check=False).lines:
            name, status, version = line.split(" ", 2)
            if status == "installed" and name in found:
                found[name] = version
        return found

    # -- changes --------------------------------------------------------------------------------------------------

    def command(
        self,
        command: str | Sequence[str],
        *,
        title: str = "",
        unless: str | Sequence[str] | None = None,
        user: str | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
        limit: int = CHANGE_LIMIT,
    ) -> bool:
        """Run a command that changes something, unless the question ``unless`` succeeds.

        Raises:
            StepFailedError: it failed.
            StepHungError: it did not end within ``limit`` seconds.
        """
        if unless is not None and self.run(unless, check=False).ok:
            return False
        if title:
            self._say(title)
        text = shell_line(command, user=user, environment=environment, directory=directory)
        arguments: dict[str, Any] = {"_stdin": stdin} if stdin is not None else {}
        return self._change(text, limit=limit, **arguments)

    def once(
        self, name: str, key: str, action: Callable[[], object], *, unless: str | Sequence[str] | None = None
    ) -> bool:
        """Do something whose result is too slow to check, once for each ``key`` (a hash of all that it depends on).

        The record is written after success only, so a killed run does it again: the action must be idempotent. If
        ``unless`` is given, the record counts only as long as that cheap question on the machine succeeds too (a
        database that somebody dropped is made again).
        """
        if self.manifest.done(name) == key and (unless is None or self.run(unless, check=False).ok):
            return False
        action()
        self.manifest.set_done(name, key)
        self.changes += 1
        return True

    def directory(self, path: str, *, owner: str = "root", group: str | None = None, mode: int = 0o755) -> bool:
        """Make a directory (and its parents, as root's), or correct its owner and mode.

        A symbolic link in its place is refused: the parent may be a service's own, which could have root give it /etc.

        Raises:
            StepFailedError: something else stands there.
        """
        wanted = f"{owner}:{group or owner} {mode:o} directory"
        seen = self.run(["stat", "-c", "%U:%G %a %F", path], check=False)
        if seen.ok and seen.stdout.strip() == wanted:
            return False
        if not seen.ok:
            self.manifest.made("directory", path)
        # Entered first, then looked at and changed as ".", so that nobody can put something else there in between.
        parent, name = shlex.quote(os.path.dirname(path) or "."), shlex.quote(os.path.basename(path))  # noqa: PTH119, PTH120 - a path on the node
        entered = f'test "$PWD" = "$(cd -P -- {parent} && printf %s "${{PWD%/}}")/"{name}'
        quoted = shlex.quote(path)
        refused = f"echo {shlex.quote(f'{path} is a symbolic link; put a directory there')} >&2; exit 1"
        return self._change(
            f"mkdir -p -- {quoted} && cd -P -- {quoted} && {{ {entered} || {{ {refused}; }}; }}"
            f" && chown {owner}:{group or owner} . && chmod {mode:o} .",
        )

    def file(
        self,
        path: str,
        content: str | bytes,
        *,
        owner: str = "root",
        group: str | None = None,
        mode: int = 0o644,
        claim: bool = True,
    ) -> bool:
        """Write a file whole and atomically, or correct its owner and mode; its directory must exist.

        With ``claim`` unset, the file is not noted as ours, and ``clean`` leaves it alone.

        The content never appears in a log, so it may hold secrets. A file in its place that is not ours is moved to the
        backup, and ``clean`` puts it back.
        """
        data = content.encode() if isinstance(content, str) else content
        wanted = f"{owner}:{group or owner} {mode:o} {hashlib.sha256(data).hexdigest()}"
        quoted = shlex.quote(path)
        look = f"stat -c '%U:%G %a' {quoted} && sha256sum < {quoted} | cut -c1-64"
        seen = self.run(look, check=False)
        if seen.ok and " ".join(seen.stdout.split()) == wanted:
            return False
        if claim:
            self._claim(path, exists=seen.ok)
        temporary = shlex.quote(f"{path}.dockstack-new")
        finish = (
            f"chown -h {owner}:{group or owner} {temporary} && chmod {mode:o} {temporary} && sync {temporary}"
            f" && mv -f {temporary} {quoted}"
        )
        return self._apply(_place, data, path, finish)

    def link(self, path: str, target: str) -> bool:
        """Make a symbolic link, replacing one that points elsewhere; a file in its place is moved to the backup."""
        seen = self.run(["readlink", path], check=False)
        if seen.ok and seen.stdout.strip() == target:
            return False
        self._claim(path, exists=not seen.ok and self.exists(path))
        return self._change(shell_line(["ln", "-sfn", target, path]))

    def absent(self, path: str) -> bool:
        """Remove a file or directory of ours; what is mounted below it is somebody else's, and stays with its parents.

        A mount of the same file system, which ``rm`` does not see, counts, too.
        """
        quoted = shlex.quote(path)
        if not self.run(f"test -e {quoted} || test -L {quoted}", check=False).ok:
            return False
        kept = [mount.point for mount in self.mounts_below(path)]
        if not kept:
            return self._change(shell_line(["rm", "-rf", "--one-file-system", "--", path]))
        self._say(f"Leaving what is mounted at {', '.join(kept)}")
        chain = {str(parent) for point in kept for parent in (PurePosixPath(point), *PurePosixPath(point).parents)}
        within = sorted(directory for directory in chain if directory == path or directory.startswith(f"{path}/"))
        for directory in within:
            if directory not in kept or directory == path:
                self._remove_children(directory, chain)
        return True

    def mounts_below(self, path: str) -> list[Mounted]:
        """Return what is mounted at a directory or below it; of a link, nothing is."""
        quoted = shlex.quote(path)
        question = f"test -d {quoted} && ! test -L {quoted} && cat /proc/self/mountinfo"
        mounted = [Mounted.of_line(line) for line in self.run(question, check=False).lines if " - " in line]
        return [mount for mount in mounted if mount.point == path or mount.point.startswith(f"{path}/")]

    def _remove_children(self, directory: str, kept: set[str]) -> None:
        found = self.run(["find", directory, "-mindepth", "1", "-maxdepth", "1", "-print0"]).stdout.split("\0")
        unwanted = [child for child in found if child and child not in kept]
        if unwanted:
            self._change(shell_line(["rm", "-rf", "--one-file-system", "--", *unwanted]))

    def group(self, name: str) -> bool:
        """Make a system group."""
        if self.run(["getent", "group", name], check=False).ok:
            return False
        self.manifest.made("group", name)
        return self._change(shell_line(["groupadd", "--system", name]))

    def user(self, name: str, *, home: str, groups: Sequence[str] = (), shell: str = "/usr/sbin/nologin") -> bool:
        """Make a system user with a group of its own name, or add it to further groups."""
        changed = self.group(name)
        seen = self.run(["id", "-Gn", name], check=False)
        if not seen.ok:
            self.manifest.made("user", name)
            line = [
                "useradd",
                "--system",
                "--gid",
                name,
                "--home-dir",
                home,
                "--no-create-home",
                "--shell",
                shell,
                name,
            ]
            changed = self._change(shell_line(line))
        missing = [group for group in groups if group not in seen.stdout.split()]
        if missing:
            if seen.ok:
                self.manifest.made("membership", f"{name}:{','.join(missing)}")
            changed = self._change(shell_line(["usermod", "-aG", ",".join(missing), name])) or changed
        return changed

    def packages(self, *names: str) -> bool:
        """Install packages of the distribution without recommended ones, and without their services starting."""
        missing = [name for name, version in self.versions(names).items() if not version]
        if not missing:
            self._restore_policy()
            return False
        self._say(f"Installing {', '.join(missing[:6])}{' ...' if len(missing) > 6 else ''}")  # noqa: PLR2004
        for name in missing:
            self.manifest.made("package", name)
        if locks := self.distribution.manager.locks:
            self.run([*self._holding(locks), "true"], limit=PACKAGES_LIMIT)
        self._deny_service_starts()
        try:
            if self.distribution.manager is APT:
                self.command(
                    [*self._holding(locks), "dpkg", "--configure", "-a", "--force-confdef", "--force-confold"],
                    unless='test -z "$(dpkg --audit)"',
                    environment={"DEBIAN_FRONTEND": "noninteractive"},
                )
            if self.baked is None or not baked_packages.install(missing, self.baked, self):
                install, options = INSTALLATION[self.distribution.manager.program]
                self._apply(install, packages=missing, **options)
        finally:
            self._restore_policy()
        return True

    def say(self, text: str) -> None:
        """Tell the person what is going on now."""
        self._say(text)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _holding(self, locks: Sequence[str]) -> list[str]:
        return [self.distribution.python, "-c", HOLD_LOCKS, *locks, "--"]

    def _execute(self, line: str, stdin: str | None, timeout: int) -> Output:
        return self._connection.run(line, stdin, timeout)

    def _redact(self, text: str) -> str:
        return self.secrets.redact(text)

    def _change(self, line: str, *, limit: int = CHANGE_LIMIT, **keywords: Any) -> bool:
        return self._apply(_execute, line, self._within(line, limit), limit=limit, **keywords)

    def _apply(self, engine_operation: Any, *arguments: Any, limit: int = CHANGE_LIMIT, **keywords: Any) -> bool:
        began = time.monotonic()
        with ctx_state.use(self._state), ctx_host.use(self._host):
            try:
                meta = engine_operation(*arguments, _timeout=patience(limit), **keywords)
            except NestedOperationError as error:
                data = self._state.get_op_data_for_host(self._host, error.args[0])
                meta = data.operation_meta
                what = self._redact(_describe(engine_operation, arguments, keywords))
                said = self._redact(tail(f"{meta.stdout}\n{meta.stderr}"))
                if time.monotonic() - began >= limit:
                    raise StepHungError(what, limit, said) from error
                raise self._failure(what, said) from error
        changed = bool(meta.did_change())
        self.changes += changed
        return changed

    def _failure(self, what: str, said: str) -> StepFailedError:
        return StepFailedError(
            f"A step on {self.node.name} failed: {what}",
            "Correct the cause that stands above and run `dockstack up` again: it goes on from here.",
            said,
        )

    def _claim(self, path: str, *, exists: bool) -> None:
        if not exists:
            self.manifest.made("file", path)
        elif not self.manifest.ours("file", path):
            kept = self.manifest.backup_path(path)
            self.run(
                f"mkdir -p {shlex.quote(kept.rpartition('/')[0])} && cp -a {shlex.quote(path)} {shlex.quote(kept)}"
            )
            self.manifest.made("file", path, backup=kept)

    def _deny_service_starts(self) -> None:
        """Keep packages from starting their services (only Debian's do): ours start later, with our configuration."""
        present = self.read(POLICY)
        if present is not None and POLICY_MARK not in present:
            self.run(["cp", "-a", POLICY, f"{POLICY}.dockstack-saved"])
        self._apply(
            _place,
            f"#!/bin/sh\n{POLICY_MARK}\nexit 101\n".encode(),
            POLICY,
            f"chmod 755 {POLICY}.dockstack-new && mv -f {POLICY}.dockstack-new {POLICY}",
        )

    def _restore_policy(self) -> None:
        """Restore the machine's own policy, also after a killed run; what that has left at work ends under ours."""
        saved = f"{POLICY}.dockstack-saved"
        restore = f"if test -e {saved}; then mv -f {saved} {POLICY}; else rm -f {POLICY}; fi"
        locks = self.distribution.manager.locks
        alone = shlex.join([*self._holding(locks), "sh", "-c", restore]) if locks else restore
        self.run(f"if grep -qsF {shlex.quote(POLICY_MARK)} {POLICY}; then {alone}; fi", limit=PACKAGES_LIMIT)


def _describe(engine_operation: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    """Describe a step for an error message, without a file's content, which may be secret."""
    if engine_operation is _place:
        return f"writing {arguments[1]}"
    if engine_operation is _execute:
        arguments = arguments[:1]
    text = " ".join(str(part) for part in keywords.get("packages") or arguments or keywords.values())
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]} ..."

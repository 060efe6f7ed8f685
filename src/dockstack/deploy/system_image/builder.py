# SPDX-License-Identifier: Apache-2.0
"""Build a system image: fetch its packages, install them within namespaces, keep the result for the next time.

Packages' own scripts run as root, but in namespaces that end with this process, killed or not: what they start dies,
what is mounted for them is gone, and there is no network. What a killed build leaves are files below one directory,
which the next build removes. No two builds run at a time: the lock is released when the last of their processes ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.base_image.built import BuiltImage
from dockstack.deploy.system_image.packages import Packages, missing
from dockstack.deploy.system_image.recipe import PROCESS
from dockstack.errors import DockstackError
from dockstack.oci.documents import Configuration, Digest, Layer, Platform, go_architecture

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dockstack.deploy.system_image.packages import Progress
    from dockstack.deploy.system_image.recipe import Mirrors, Recipe

CACHE = Path("/var/cache/dockstack/system-images")
_SCRIPT = Path(__file__).with_name("assemble.sh")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # all of the environment: this machine's proxies are not the image's
_CHUNK = 1 << 20
_KEPT = 4  # layers: those of both suites, with and without further packages
_STEPS = 2  # unpacking and configuring a package
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--propagation", "private"),
    *("--fork", "--kill-child", "--"),
)


def build(recipe: Recipe, mirrors: Mirrors, progress: Progress, cache: Path = CACHE) -> BuiltImage:
    """Build a system image, or return the one that was built of the same packages before.

    Raises:
        DockstackError: we are not root, a program is missing, the packages cannot be had or do not install.
    """
    if os.geteuid() != 0:
        raise DockstackError(
            "Building a system image needs root: packages are installed in it.", "Run the command with sudo."
        )
    for program in ("apt-get", "dpkg-deb", "setpriv", "unshare", "chroot", "mount", "tar"):
        if shutil.which(program) is None:
            raise missing(program)
    with _alone(cache) as lock:
        for left in cache.glob("work-*"):
            shutil.rmtree(left)
        packages = Packages(cache / f"{recipe.suite}-{recipe.architecture}", recipe.architecture)
        packages.update(mirrors.sources(recipe.suite), progress)
        names = packages.resolve(recipe.packages)
        sources = mirrors.sources(recipe.suite, inside=True)
        layer = cache / f"{recipe.key(names, sources)}.tar"
        if not layer.exists():
            packages.download(recipe.packages, progress)
            with tempfile.TemporaryDirectory(prefix="work-", dir=cache) as directory:
                work = Path(directory)
                _provide(work, recipe, packages, names, sources)
                _assemble(work, [str(packages.epoch(names)), recipe.lib64], lock, progress, len(names) * _STEPS)
                (work / "layer.tar").replace(layer)
            packages.forget_old()
        os.utime(layer)
        for old in sorted(cache.glob("*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink()
    return _image(layer, recipe.architecture)


@contextmanager
def _alone(cache: Path) -> Iterator[int]:
    """Hold the cache's lock, and give it to share with processes that must end before the next build."""
    cache.mkdir(parents=True, exist_ok=True, mode=0o755)
    lock = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DockstackError("Another build of a system image goes on.", "Wait until it is done.") from error
        yield lock
    finally:
        os.close(lock)


def _provide(work: Path, recipe: Recipe, packages: Packages, names: Sequence[str], sources: str) -> None:
    """Lay down what assemble.sh reads."""
    (work / "files.tar").write_bytes(recipe.files(sources))
    essential = packages.resolve(recipe.essential)
    (work / "essential").write_text("".join(f"{name}\n" for name in essential))
    (work / "archives").mkdir()
    for name in names:  # and no others, which other images have
        (work / "archives" / name).hardlink_to(packages.archives / name)


def _assemble(work: Path, arguments: Sequence[str], lock: int, progress: Progress, steps: int) -> None:
    """Install the packages and write the layer."""
    command = [*_NAMESPACES, "/bin/sh", str(_SCRIPT), str(work), *arguments]
    log = work / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            env={"PATH": _PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=(lock,),
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - asked for above
        seen: set[str] = set()
        for line in process.stdout:
            if line.startswith("processing: ") and line not in seen:  # dpkg(1), --status-fd
                seen.add(line)
                progress("Installing packages", min(len(seen), steps), steps)
    if process.returncode:
        raise DockstackError(
            "The packages do not install into an image.",
            "The lines above are dpkg's last; if the mirror is sound, this is a fault of dockstack.",
            log.read_text(errors="replace")[-3000:],
        )


def _image(layer: Path, architecture: str) -> BuiltImage:
    def read() -> Iterator[bytes]:
        with layer.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    state = hashlib.sha256()
    for chunk in read():
        state.update(chunk)
    digest = Digest("sha256", state.hexdigest())
    platform = Platform("linux", *go_architecture(architecture))
    configuration = Configuration.build(platform, [digest], dict(PROCESS), "dockstack image build debian")
    return BuiltImage(configuration, Layer(digest, layer.stat().st_size, read))

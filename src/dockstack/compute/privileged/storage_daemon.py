# SPDX-License-Identifier: Apache-2.0
"""A qemu-storage-daemon for each encrypted volume: it decrypts a file or device, and shows that as a file by FUSE.

Each is a process of its own, so that one volume's bytes harm no other one, and outlives whoever started it: servers use
it. It leaves the session and the control group of nova-compute, which a supervisor ends as a whole. Where it is, a
directory says; a process that is killed at any moment leaves nothing that ``stop`` and ``forget`` do not find there.

The file is shown by a second mount, of ours: a process that is asked to end takes its own one away, and the kernel then
calls the file of a device over it "/", by which nobody finds that device again.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from dockstack.compute.privileged import mounts

PROGRAM = "qemu-storage-daemon"
PLAIN, _SERVED, _SOURCE, _PROCESS, _MONITOR, _MESSAGES = "plain", "served", "source", "pid", "monitor", "messages"
_CGROUP = "dockstack-volumes"
_CGROUPS = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup"))  # of v1, in which processes are told apart; of v2
_START, _END, _ANSWER, _INTERVAL = 120.0, 30.0, 60.0, 0.02  # seconds
_CAPABILITIES = "-all,+sys_admin,+dac_override"  # to mount; a volume's file belongs to Cinder's user
# It notes its process, with its start, and leaves the group before there is anything to find; nothing of it is dumped.
# Where memory is short, it is among the last to be ended: the kernel writes servers' pages back through it. A host that
# may not lower its score (CAP_SYS_RESOURCE, which a program of root's has of its bounding set) does without.
_SHELL = (
    "umask 077; ulimit -c 0; echo -900 2>/dev/null > /proc/$$/oom_score_adj; read -r stat < /proc/$$/stat || exit; "
    'echo "$stat" > "$1" || exit; [ -z "$2" ] || echo $$ > "$2" || exit; shift 2; exec "$@"'
)
_ENDED = (b"Z", b"X")


def is_running(directory: Path) -> bool:
    """Say whether a volume is open, and answers."""
    return _shows(directory, PLAIN)


def start(directory: Path, path: str, key: bytes) -> None:
    """Open a LUKS volume.

    Args:
        directory: which is to be the volume's alone.
        path: the file or block device that is encrypted.
        key: what opens it. It goes by a pipe, and stands nowhere.

    Raises:
        OSError: it cannot be opened; what the program says of it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (PLAIN, _SERVED):
        (directory / name).touch(mode=0o600)
    (directory / _SOURCE).write_text(path)
    with _piped(key) as pipe, (directory / _MESSAGES).open("wb") as messages:
        line = ["setsid", "--fork", "sh", "-c", _SHELL, "sh", str(directory / _PROCESS), _find_group()]
        line += ["setpriv", f"--bounding-set={_CAPABILITIES}", "--no-new-privs", *_command(directory, path, pipe)]
        subprocess.run(line, check=True, pass_fds=(pipe,), stdin=subprocess.DEVNULL, stdout=messages, stderr=messages)
    deadline = time.monotonic() + _START
    while not _shows(directory, _SERVED):
        if time.monotonic() > deadline or (_read_note(directory) and not _find_process(directory)):
            said = (directory / _MESSAGES).read_text(errors="replace").strip()
            stop(directory)
            raise OSError(f"{PROGRAM} does not open it: {said or 'no answer'}")
        time.sleep(_INTERVAL)
    tree = mounts.clone(str(directory / _SERVED))
    try:
        mounts.move(tree, str(directory / PLAIN))
    finally:
        os.close(tree)


def stop(directory: Path) -> None:
    """Close a volume, with what was written to it on the disk; absent is success."""
    process = _find_process(directory)
    if process is None:
        return
    with contextlib.suppress(OSError, ValueError):
        _ask(directory, "quit")
        if _has_ended(process):
            return
    with contextlib.suppress(ProcessLookupError):
        if _find_process(directory) == process:
            os.kill(process, signal.SIGKILL)
    _has_ended(process)


def forget(directory: Path) -> None:
    """Remove what there is of a volume that is closed; absent is success."""
    for name in (PLAIN, _SERVED):
        mounts.unmount(str(directory / name), busy=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def find_source(directory: Path) -> str:
    """Return the file or block device that is open."""
    return (directory / _SOURCE).read_text()


def grow(directory: Path, wanted: int) -> None:
    """Let an open volume have as many bytes, which what is encrypted has room for."""
    plain = directory / PLAIN
    if plain.stat().st_size < wanted:
        _ask(directory, "block_resize", {"node-name": "plain", "size": wanted})
    deadline = time.monotonic() + _ANSWER
    while plain.stat().st_size < wanted:  # FUSE has the kernel remember a file's size for a second
        if time.monotonic() > deadline:
            raise TimeoutError("the decrypted volume does not grow")
        time.sleep(_INTERVAL)


def _shows(directory: Path, name: str) -> bool:
    """Say whether a file of a volume that is open is the process's, which answers."""
    if _find_process(directory) is None:  # the kernel remembers for a second what the dead one said of its file
        return False
    try:
        return (directory / name).stat().st_dev != directory.stat().st_dev
    except OSError:
        return False


def _command(directory: Path, path: str, pipe: int) -> list[str]:
    kind = "host_device" if Path(path).is_block_device() else "file"
    return [
        PROGRAM,
        *("--object", f"secret,id=key,file=/proc/self/fd/{pipe}"),
        *("--blockdev", json.dumps({"driver": kind, "node-name": "cipher", "filename": path, "discard": "unmap"})),
        *(
            "--blockdev",
            json.dumps(
                {"driver": "luks", "node-name": "plain", "file": "cipher", "key-secret": "key", "discard": "unmap"}
            ),
        ),
        *("--chardev", f"socket,id=monitor,path={directory / _MONITOR},server=on,wait=off"),
        *("--monitor", "chardev=monitor"),
        *("--export", f"fuse,id=plain,node-name=plain,mountpoint={directory / _SERVED},writable=on,allow-other=off"),
    ]


@contextlib.contextmanager
def _piped(key: bytes) -> Any:
    """Have a descriptor from which a key can be read once; it fits into a pipe, so nobody waits."""
    reading, writing = os.pipe()
    try:
        os.write(writing, key)
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _find_group() -> str:
    """Return where a process is written to that is to leave the group of a service; "" where there are none."""
    for root in _CGROUPS:
        if (root / "cgroup.procs").exists():
            group = root / _CGROUP
            with contextlib.suppress(OSError):
                group.mkdir(exist_ok=True)
                return str(group / "cgroup.procs")
    return ""


def _read_note(directory: Path) -> tuple[int, bytes] | None:
    """Return the process that was begun for a volume, and its start; None before it has noted itself."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (directory / _PROCESS).read_bytes()
        return int(text.split()[0]), _read_stat(text)[1]
    return None


def _read_stat(text: bytes) -> tuple[bytes, bytes]:
    """Return a process's state and its start, in ticks since the machine's (proc_pid_stat(5))."""
    fields = text.rpartition(b")")[2].split()
    return fields[0], fields[19]


def _find_process(directory: Path) -> int | None:
    """Return the process that has a volume open, or is about to; a number that is another one's by now is not.

    Its command line would not tell: while a program begins, that is empty.
    """
    noted = _read_note(directory)
    if noted is None:
        return None
    process, start = noted
    with contextlib.suppress(OSError):
        state, found = _read_stat(Path(f"/proc/{process}/stat").read_bytes())
        if found == start and state not in _ENDED:
            return process
    return None


def _has_ended(process: int) -> bool:
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], _END)[0])
    finally:
        os.close(descriptor)


def _ask(directory: Path, command: str, arguments: dict[str, Any] | None = None) -> None:
    """Have the process do something (QEMU Machine Protocol).

    Raises:
        OSError: it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER)
        connection.connect(str(directory / _MONITOR))
        with connection.makefile("rwb") as stream:
            stream.readline()  # its greeting
            for each, values in (("qmp_capabilities", {}), (command, arguments or {})):
                stream.write(json.dumps({"execute": each, "arguments": values}).encode() + b"\n")
                stream.flush()
                answer: dict[str, Any] = {}
                while not {"return", "error"} & answer.keys():  # others are events
                    answer = json.loads(stream.readline())
                if "error" in answer:
                    raise OSError(f"{PROGRAM}: {answer['error'].get('desc')}")

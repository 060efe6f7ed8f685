# SPDX-License-Identifier: Apache-2.0
"""Apply the driver's patch to a bundle's config.json, then become the real runtime.

Runs as root in every start of a server, before its first process, as ``python3 -I -S``: standard library only.
It fails closed: without a patch that it understands and a namespace that exists, the container does not start.

Whom it trusts: the patch directory's owner. That is root or the compute service's user, who may write to the engine's
socket and so is root's equal already; a patch as that user's own file adds nothing to what it can do. Everybody else
must be unable to write there, and a namespace is only ever one of ours below /run/netns, never the host's. What is
mounted comes from directories that were named when the wrapper was installed, and never by way of a link: a mistake of
the driver must not hand a file of the host to a tenant.

It is one file because it is replaced, in one step, on hosts where servers are starting: none may meet half of it in one
version and half in another. Below, the story comes first; a section for each of its steps follows.
"""

# pathlib would cost more than all the rest of this start-up:
# ruff: noqa: PTH103, PTH104, PTH108, PTH110, PTH112, PTH116, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import signal
import stat
import sys
import time


class Refusal(Exception):  # noqa: N818 - the runtime refuses
    """Why the container must not start; the text reaches the engine's error."""


# The story: what happens at a call of the runtime.


def main(arguments: list[str]) -> None:
    """Edit if the call needs it, then exec.

    Arguments: the runtime, the patch directory, the directories of mounts' sources (with colons between), and the
    runtime's own.
    """
    runtime, patches, sources, *call = arguments
    try:
        bundle = find_bundle(call)
        if bundle is not None:
            create(patches, os.path.realpath(bundle), sources.split(":"))
        started = find_started(call)
        if started is not None:
            start(patches, started)
        os.execv(runtime, [runtime, *call])  # noqa: S606 - no shell wanted
    except (Refusal, OSError, ValueError, KeyError, TypeError) as error:
        end(runtime, call)
        report(call, f"dockstack-runtime: {error}")
        sys.exit(1)


def create(patches: str, bundle: str, sources: list[str]) -> None:
    """Do what a container needs before it is created.

    A container that is held until its network is complete gets the files that speak of that when it starts; where the
    start finds its bundle is noted beside the patch.
    """
    identity = os.path.basename(bundle)
    held = os.path.exists(os.path.join(patches, identity + ".gate"))  # first: without a gate the patch is whole
    patch = read_patch(patches, identity)
    if held:
        patch["contents"] = dict.fromkeys(check_contents(patch.get("contents", {})), "")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(os.path.join(patches, identity + ".held"), flags, 0o600), "w", encoding="utf-8") as file:
            file.write(bundle)
    apply(patch, os.path.join(bundle, "config.json"), sources)


def start(patches: str, identity: str) -> None:
    """Wait until a container that is held may run, and complete its files; others are none of this."""
    note = os.path.join(patches, identity + ".held")
    try:
        with open(note, encoding="utf-8") as file:
            bundle = file.read()
    except FileNotFoundError:
        return
    wait_gate(patches, identity)
    complete_files(bundle, identity, read_patch(patches, identity).get("contents", {}))
    os.unlink(note)


def apply(patch: dict[str, object], path: str, sources: list[str]) -> None:
    """Rewrite config.json as the patch says; a crash leaves the old file or the new."""
    namespace = check_namespace(patch.get("netns"))
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    take_root(config, os.path.dirname(path), patch.get("root_volume"))
    join_namespace(config, namespace)
    give_files(config, os.path.dirname(path), patch.get("contents", {}))
    drop_mounts(config, patch.get("drop_mounts", []))
    add_overlays(config, patch.get("overlays", []))
    add_roots(config, patch.get("roots", []))
    in_proc = add_mounts(config, patch.get("mounts", []), sources)
    size_shared_memory(config, patch.get("shm_bytes", 0))
    for key, name in (("masked_paths", "maskedPaths"), ("readonly_paths", "readonlyPaths")):
        add_paths(config, name, patch.get(key, []))
    add_environment(config, patch.get("environment", {}))
    give_groups(config, patch.get("own_groups", False))
    give_settings(config, os.path.dirname(path), patch.get("sysctls", []), in_proc)
    give_devices(config, os.path.dirname(path), patch.get("devices", []))
    guard_disk(config, patch.get("disk_guard", ""))
    guard_kernel(config)
    give_mounts(config, namespace, patch.get("volume_mounts", ""), patch.get("mount_socket", ""))
    new = path + ".dockstack"
    with open(new, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
        json.dump(config, file)
    os.rename(new, path)


# The call: the runtime's command line.

_CALLS = ("create", "restore", "run")
# runc's global options that take a value (runc --help)
_GLOBAL_VALUES = ("--log", "--log-format", "--root", "--criu", "--rootless")


def find_command(call: list[str]) -> tuple[str, list[str]]:
    """Return the runtime's command and the words after it; empty if there is none."""
    words = list(call)
    while words:
        word = words.pop(0)
        if word in _GLOBAL_VALUES:
            del words[:1]
        elif not word.startswith("-"):
            return word, words
    return "", []


def find_started(call: list[str]) -> str | None:
    """Return the id of the container that the call starts, else None."""
    command, words = find_command(call)
    return next((word for word in words if not word.startswith("-")), None) if command == "start" else None


def find_bundle(call: list[str]) -> str | None:
    """Return the bundle's directory if the call reads its config.json, else None."""
    command, rest = find_command(call)
    if command not in _CALLS:
        return None
    words = iter(rest)
    for option in words:
        if option in ("--bundle", "-b"):
            return next(words, ".")
        name, _, value = option.partition("=")
        if name in ("--bundle", "-b"):
            return value
    return "."


# The driver's notes: the patch of a container, and the gate that holds its start.

# A key that is not known here refuses the start, so that a patch of a newer driver is never applied by halves; the
# version need only rise when a key changes its meaning.
VERSION = 1
KEYS = {"version", "netns", "drop_mounts", "mounts", "masked_paths", "readonly_paths"}
KEYS |= {"overlays", "roots", "disk_guard", "contents", "shm_bytes", "environment", "own_groups", "sysctls"}
KEYS |= {"devices", "volume_mounts", "mount_socket", "root_volume"}
KEYS |= {"interfaces"}  # the driver's own
PATCH_BYTES = 1 << 20


def read_patch(directory: str, identity: str) -> dict[str, object]:
    """Read and check a container's patch.

    Raises:
        Refusal: there is none, somebody else could have written it, or it means something that we do not know.
    """
    owner = os.stat(directory)
    if owner.st_mode & 0o022:
        raise Refusal(f"{directory} can be written by others than its owner")
    path = os.path.join(directory, identity + ".json")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refusal(f"no network was prepared for this container: {path} is missing") from None
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (0, owner.st_uid):
            raise Refusal(f"{path} is no file that only the owner of its directory can write")
        data = file.read(PATCH_BYTES + 1)
    if len(data) > PATCH_BYTES:
        raise Refusal(f"{path} is too large")
    patch = json.loads(data)
    if not isinstance(patch, dict) or patch.get("version") != VERSION or not set(patch) <= KEYS:
        raise Refusal(f"{path} is not of version {VERSION}: install the runtime of the driver's version")
    return patch


def wait_gate(directory: str, identity: str) -> None:
    """Wait while the driver holds a container's start.

    The driver has the gate locked for as long as it makes the server's network, and writes a word into it when that is
    complete. With the driver's death the kernel takes its lock away, and the gate is empty.

    Raises:
        Refusal: the driver gave up, or died.
    """
    path = os.path.join(directory, identity + ".gate")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.fstat(descriptor).st_size:
            raise Refusal("the network of this container was not completed")
    finally:
        os.close(descriptor)


# The network.

NAMESPACES = "/run/netns/"
NAMESPACE_PREFIX = "nova-"

# linux/nsfs.h: NS_GET_NSTYPE, and linux/sched.h: CLONE_NEWNET
_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x40000000


def check_namespace(path: object) -> str:
    """Return the path of a network namespace that is one of ours and not the host's.

    Raises:
        Refusal: it is missing or something else.
    """
    if (
        not isinstance(path, str)
        or os.path.normpath(path) != path
        or not path.startswith(NAMESPACES + NAMESPACE_PREFIX)
    ):
        raise Refusal(f"{path!r} is no namespace of a server")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refusal(f"the network namespace {path} is missing: restart the server through Nova") from None
    try:
        found, host = os.fstat(descriptor), os.stat("/proc/self/ns/net")
        if found.st_dev != host.st_dev or fcntl.ioctl(descriptor, _NS_GET_NSTYPE) != _CLONE_NEWNET:
            raise Refusal(f"{path} is no network namespace: restart the server through Nova")
        if found.st_ino == host.st_ino:
            raise Refusal(f"{path} is the host's own network namespace")
    finally:
        os.close(descriptor)
    return path


def join_namespace(config: dict[str, object], path: str) -> None:
    """Point config.json's network namespace at ``path`` and keep the engine's network code away from it.

    The engine's set-up hook (libnetwork-setkey) switches IPv6 off in the namespace and so flushes our addresses.
    """
    linux = config["linux"]
    if not isinstance(linux, dict):
        raise Refusal("config.json has no Linux section")
    kept = [entry for entry in linux.get("namespaces", []) if entry.get("type") != "network"]
    linux["namespaces"] = [*kept, {"type": "network", "path": path}]
    hooks = config.get("hooks")
    if isinstance(hooks, dict) and "prestart" in hooks:
        hooks["prestart"] = [hook for hook in hooks["prestart"] if "libnetwork-setkey" not in hook.get("args", [])]


# The files that the engine would mount over the server's own.

# What the engine mounts over a root file system's own, from files of its own that count to nobody's disk.
ENGINES_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_ENGINES_FILE_BYTES = 1 << 20


def give_files(config: dict[str, object], bundle: str, contents: object) -> None:
    """Let a server have its hosts, hostname and resolv.conf itself, as it has every other file.

    They begin as the patch says, else as the engine wrote them. The server may change and replace them, and what it
    writes counts to its disk.

    Raises:
        Refusal: ``contents`` are not texts of such files.
    """
    texts = check_contents(contents)
    mounts, root = config.get("mounts"), config.get("root")
    if not isinstance(mounts, list) or not isinstance(root, dict):
        return
    theirs = [mount for mount in mounts if mount.get("type") == "bind" and mount["destination"] in ENGINES_FILES]
    for mount in theirs:
        path = mount["destination"]
        data = texts[path].encode() if path in texts else read_start(mount["source"])
        fill_empty(os.path.join(bundle, root["path"]), path, data)
        renew_own_lines(os.path.join(bundle, root["path"]), path, data)
        mounts.remove(mount)


def complete_files(bundle: str, identity: str, contents: object) -> None:
    """Fill in what could not be known yet when the container was created; its first process has not run.

    Raises:
        Refusal: ``bundle`` is none of this container.
    """
    if os.path.basename(bundle) != identity:
        raise Refusal(f"{bundle} is no bundle of {identity}")
    with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
        root = json.load(file)["root"]["path"]
    if root == root_place(bundle):  # which is empty here: the server's first process, which waits, has what is there
        with open(os.path.join(bundle, "init.pid"), encoding="ascii") as file:
            root = f"/proc/{int(file.read())}/root"
    for path, text in check_contents(contents).items():
        if path in ENGINES_FILES:
            fill_empty(os.path.join(bundle, root), path, text.encode())


def check_contents(contents: object) -> dict[str, str]:
    """Return what files begin with, by path.

    Raises:
        Refusal: it is something else.
    """
    if not isinstance(contents, dict) or not all(isinstance(text, str) for text in contents.values()):
        raise Refusal("contents are no texts")
    return contents


def read_start(path: str) -> bytes:
    """Read a file of the engine's, which is small."""
    with open(path, "rb") as file:
        return file.read(_ENGINES_FILE_BYTES)


# Between these stand a server's own addresses in /etc/hosts.
OWN_LINES = (
    "# This server's own addresses, renewed at each start: remove this line to keep them yourself.\n",
    "# End.\n",
)


def renew_own_lines(root: str, path: str, data: bytes) -> None:
    """Bring what stands between the marks in a server's file to what ``data`` has there."""
    descriptor = open_own(root, path) if OWN_LINES[0].encode() in data else None
    if descriptor is None:
        return
    try:
        found = os.read(descriptor, _ENGINES_FILE_BYTES + 1)
        renewed = with_own_lines(found, data)
        if renewed != found and len(found) <= _ENGINES_FILE_BYTES:
            os.pwrite(descriptor, renewed, 0)
            os.ftruncate(descriptor, len(renewed))
    except OSError as error:  # its disk is full
        sys.stderr.write(f"dockstack-runtime: {path} of the server is left as it is: {error}\n")
    finally:
        os.close(descriptor)


def with_own_lines(found: bytes, data: bytes) -> bytes:
    """Return a server's file with what ``data`` has between the marks; without the marks, as it is.

    Its addresses change while it lives: ports come, go and move.
    """
    begin, end = (mark.encode() for mark in OWN_LINES)
    before, mark, rest = found.partition(begin)
    _, closed, after = rest.partition(end)
    ours = data.partition(begin)[2].partition(end)[0]
    return before + mark + ours + closed + after if mark and closed else found


def fill_empty(root: str, path: str, data: bytes) -> None:
    """Write a file of a root file system, if what stands there is an empty one.

    That is what the engine leaves there when it makes a container. Whatever else a server has made of it is its own
    choice.
    """
    descriptor = open_own(root, path)
    if descriptor is None:
        return
    try:
        if not os.fstat(descriptor).st_size:
            os.fchmod(descriptor, 0o644)
            os.write(descriptor, data)
    except OSError as error:  # its disk is full
        sys.stderr.write(f"dockstack-runtime: {path} of the server is left as it is: {error}\n")
    finally:
        os.close(descriptor)


def open_own(root: str, path: str) -> int | None:
    """Open a file of a root file system, of which no link is followed; None if it is none any more."""
    directory, name = os.path.split(path.lstrip("/"))
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        opened.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[0]))
        if not stat.S_ISREG(os.stat(name, dir_fd=opened[1], follow_symlinks=False).st_mode):
            return None
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[1])
    except OSError as error:  # the server removed it
        sys.stderr.write(f"dockstack-runtime: {path} of the server is left as it is: {error}\n")
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


# Mounts, and paths that are hidden.

MOUNT_KEYS = {"source", "destination", "type", "options", "required"}
_COVER = "size=4097"  # containers/volumes.py

# No option of a mount may reach the host (shared propagation) or the kernel's other mount parameters.
_BIND = ("bind", "rbind")
_FLAGS = ("ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime", "private", "rprivate", "slave", "rslave")
_REFUSED = ("/proc/partitions",)  # by runc, which knows only what LXCFS has
_TMPFS_VALUES = ("size=", "mode=", "nr_inodes=", "uid=", "gid=")


def drop_mounts(config: dict[str, object], destinations: object) -> None:
    """Take what stands over declared volumes away from config.json; what the image has there shows instead.

    That is a cover, or, in a container of an older driver, a volume of the engine's. A tmpfs of another size is the
    server's own.
    """
    if not isinstance(destinations, list):
        raise Refusal("drop_mounts is no list")
    unwanted = {os.path.normpath(str(destination)) for destination in destinations}
    mounts = config.get("mounts")
    if unwanted and isinstance(mounts, list):
        config["mounts"] = [
            mount
            for mount in mounts
            if os.path.normpath(mount["destination"]) not in unwanted
            or not (mount.get("type") == "bind" or is_cover(mount))
        ]


def is_cover(mount: dict[str, object]) -> bool:
    """Whether a mount keeps the engine from making a volume, and does nothing else."""
    options = mount.get("options")
    return mount.get("type") == "tmpfs" and isinstance(options, list) and _COVER in options


def add_mounts(config: dict[str, object], wanted: object, sources: list[str]) -> list[tuple[str, str]]:
    """Append mounts to config.json, after the engine's own; one that is not required is left out if its source is gone.

    Returns:
        Source and place of each bind mount that the runtime would refuse, as it stands in /proc.

    Raises:
        Refusal: a mount is not what a driver of this version asks for, or its source is missing.
    """
    mounts = config.setdefault("mounts", [])
    if not isinstance(wanted, list) or not isinstance(mounts, list):
        raise Refusal("mounts is no list")
    optional = [
        str(mount.get("source")) for mount in wanted if isinstance(mount, dict) and not mount.get("required", True)
    ]
    answering = not optional or all_answer(optional)
    in_proc = []
    for mount in wanted:
        if not isinstance(mount, dict) or not set(mount) <= MOUNT_KEYS:
            raise Refusal(f"{mount!r} is no mount")
        if not answering and not mount.get("required", True):
            continue
        entry = {key: mount[key] for key in ("source", "destination", "type", "options")}
        check_destination(entry["destination"])
        check_options(entry["type"], entry["options"])
        if entry["type"] == "tmpfs" or has_source(entry["source"], sources, mount.get("required", True)):
            if entry["destination"] in _REFUSED:
                in_proc.append((entry["source"], entry["destination"]))
            else:
                mounts.append(entry)
    return in_proc


def size_shared_memory(config: dict[str, object], size: object) -> None:
    """Give /dev/shm the size that goes with the server's memory; the engine gives 64 MiB to all.

    Raises:
        Refusal: ``size`` is no number of bytes.
    """
    if type(size) is not int or size < 0:
        raise Refusal(f"{size!r} is no size of /dev/shm")
    mounts = config.get("mounts")
    for mount in mounts if size and isinstance(mounts, list) else []:
        if mount.get("destination") == "/dev/shm" and mount.get("type") == "tmpfs":
            others = [option for option in mount.get("options") or [] if not option.startswith("size=")]
            mount["options"] = [*others, f"size={size}"]


def has_source(path: object, sources: list[str], required: object) -> bool:
    """Say whether a bind mount's source can be had.

    Raises:
        Refusal: it stands elsewhere than in the named directories, or is required and missing.
    """
    inside = isinstance(path, str) and any(path == source or path.startswith(source + "/") for source in sources)
    # realpath leaves a path alone only if it is absolute, normalised and goes by no link.
    if not isinstance(path, str) or not inside or os.path.realpath(path) != path:
        raise Refusal(f"{path!r} is no source of a mount: it must stand below {' or '.join(sources)}, and be no link")
    try:
        os.stat(path)
    except OSError as error:
        if required:
            raise Refusal(f"the source of a mount cannot be had: {error}") from None
        return False
    return True


def check_destination(path: object) -> None:
    """Refuse a path that is not absolute, normalised and below the root.

    Raises:
        Refusal: it is something else.
    """
    if not isinstance(path, str) or not path.startswith("/") or path.strip("/") == "" or os.path.normpath(path) != path:
        raise Refusal(f"{path!r} is no path in a container")


def check_options(kind: object, options: object) -> None:
    """Refuse a kind of mount or an option that no mount of ours has.

    Raises:
        Refusal: naming it.
    """
    if kind not in ("bind", "tmpfs") or not isinstance(options, list):
        raise Refusal(f"a mount is of kind {kind!r} with options {options!r}")
    for option in options:
        if option in _FLAGS or (kind == "bind" and option in _BIND):
            continue
        if kind == "tmpfs" and isinstance(option, str) and option.startswith(_TMPFS_VALUES) and "," not in option:
            continue
        raise Refusal(f"a {kind} mount has the option {option!r}")
    if kind == "bind" and not set(options) & set(_BIND):
        raise Refusal(f"a bind mount has the options {options!r}")


def add_paths(config: dict[str, object], name: str, paths: object) -> None:
    """Add to the paths that the runtime hides or protects.

    Raises:
        Refusal: one is no path.
    """
    linux = config["linux"]
    if not isinstance(paths, list) or not isinstance(linux, dict):
        raise Refusal(f"{name} is no list")
    for path in paths:
        check_destination(path)
    if paths:
        linux[name] = list(dict.fromkeys([*(linux.get(name) or []), *paths]))


# What an init finds: its environment, control groups of its own.

_GROUPS = "/sys/fs/cgroup"
_BESIDE = "/sys/fs/cgroup/unified"  # where systemd has cgroup v2 beside v1 (systemd(1)), and the runtime looks for it
_GROUP_OPTIONS = ("nosuid", "nodev", "noexec", "rprivate")
_GROUP_LIMITS = {
    "cgroup.max.descendants": "4096",  # each costs the host some 5 KiB, of which little is charged to the server
    # No path of a group may be longer than the kernel takes one (4,096 bytes), or the runtime cannot remove it: each
    # name has up to 255.
    "cgroup.max.depth": "14",
}


def add_environment(config: dict[str, object], wanted: object) -> None:
    """Tell the first process what it does not know already; it stands in no record of the engine's.

    Raises:
        Refusal: it is no environment.
    """
    process = config.get("process")
    if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
        raise Refusal("environment is no texts")
    if wanted and isinstance(process, dict):
        environment = process.setdefault("env", [])
        known = {variable.partition("=")[0] for variable in environment}
        environment += [f"{name}={value}" for name, value in wanted.items() if name not in known]


def give_groups(config: dict[str, object], wanted: object) -> None:
    """Let a server make control groups below its own, so many at most, and see no others.

    In a namespace of control groups its own is the topmost. Where the host has cgroup v2, the kernel keeps whoever is
    in such a namespace from the limits of its topmost group, if the host has asked for that (nsdelegate). Where it has
    cgroup v1, whose groups nothing counts, the server gets cgroup v2 without controllers, as the host has it beside.

    Raises:
        Refusal: the host has nothing to give, or it would give more than that.
    """
    linux, mounts = config["linux"], config.get("mounts")
    if not wanted or not isinstance(linux, dict) or not isinstance(mounts, list):
        return
    hierarchies = list_hierarchies()
    version_2 = {place: options for place, kind, options in hierarchies if kind == "cgroup2"}
    if "nsdelegate" not in version_2.get(_GROUPS, ["nsdelegate"]):
        raise Refusal(
            f"this server's init needs control groups of its own: mount -o remount,nsdelegate {_GROUPS} on the host"
        )
    if not version_2.keys() & {_GROUPS, _BESIDE}:
        raise Refusal(
            "this server's init needs control groups, and this host has none whose number can be bounded: boot it with "
            f"systemd.unified_cgroup_hierarchy=1 (or, without systemd: mkdir {_BESIDE}; mount -t cgroup2 cgroup2 "
            f"{_BESIDE})"
        )
    namespaces = linux.setdefault("namespaces", [])
    if not any(entry.get("type") == "cgroup" for entry in namespaces):
        namespaces.append({"type": "cgroup"})
    if _GROUPS not in version_2:
        others = [mount for mount in mounts if mount.get("type") != "cgroup"]
        config["mounts"] = [*others, *list_own_groups(find_group(linux), hierarchies)]
        return
    for mount in mounts:
        if mount.get("type") == "cgroup":
            mount["options"] = [option for option in mount.get("options") or [] if option != "ro"] + ["rw"]
    resources = linux["resources"] = linux.get("resources") or {}
    resources["unified"] = {**(resources.get("unified") or {}), **_GROUP_LIMITS}


def list_own_groups(group: str, hierarchies: list[tuple[str, str, list[str]]]) -> list[dict[str, object]]:
    """Bound a server's group in the hierarchy that the host has beside those of cgroup v1; return what it mounts.

    Only the limits of its topmost group are kept from it: where no controller is, nothing else there is worth
    anything. The hierarchies of cgroup v1 stand in groups of that name, read-only, for programs that look there for the
    limits of their memory. The runtime makes the server's groups anew if it has to, and removes them with it.
    """
    own = _BESIDE + group
    os.makedirs(own, exist_ok=True)
    for name, value in _GROUP_LIMITS.items():
        with open(os.path.join(own, name), "w", encoding="ascii") as file:
            file.write(value)
    binds = [(own, _GROUPS, "rw"), *((f"{own}/{name}", f"{_GROUPS}/{name}", "ro") for name in _GROUP_LIMITS)]
    for place, kind, options in hierarchies:
        if kind == "cgroup" and not any(option.startswith("name=") for option in options):
            controllers = os.path.basename(place).split(",")
            binds += [(place + group, f"{_GROUPS}/{controller}", "ro") for controller in controllers]
    return [
        {"source": source, "destination": place, "type": "bind", "options": ["bind", how, *_GROUP_OPTIONS]}
        for source, place, how in binds
    ]


def list_hierarchies() -> list[tuple[str, str, list[str]]]:
    """List the host's hierarchies of control groups: where each is, its kind and its options (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        split = [line.partition(" - ")[::2] for line in file]
    return [
        (before.split()[4], after.split()[0], after.split()[-1].split(","))
        for before, after in split
        if after.startswith("cgroup")
    ]


def find_group(linux: dict[str, object]) -> str:
    """Return the path of the group that the runtime will make, below each hierarchy.

    Raises:
        Refusal: it is not known.
    """
    path = linux.get("cgroupsPath")
    if isinstance(path, str) and re.fullmatch(r"(/[\w.-]+)+", path) and os.path.normpath(path) == path:
        return path
    # where the host's systemd makes it: slice:prefix:name
    found = re.fullmatch(r"([\w.-]+)\.slice:([\w.-]+):([\w.-]+)", path) if isinstance(path, str) else None
    if not found:
        raise Refusal(f"{path!r} is no control group")
    words = found[1].split("-")
    slices = ["-".join(words[: count + 1]) + ".slice" for count in range(len(words))]
    return "/" + "/".join([*slices, f"{found[2]}-{found[3]}.scope"])


# Settings of the kernel that are a server's own.

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# A runtime without the host's kernel has no such file, nor what else is mounted there.
_MOUNT_ALL = 'if [ -e "$1" ]; then exec mount -n -a -T "$2"; fi'
TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_PATH = "PATH=" + TOOLS["PATH"]


def give_settings(
    config: dict[str, object], bundle: str, sysctls: object, in_proc: list[tuple[str, str]] | None = None
) -> None:
    """Give a server a boot id of its own, new at each start, and let it write settings of its own network.

    The runtime mounts nothing there itself, so a hook does, before the root file system becomes the container's; what
    the runtime makes read-only afterwards takes its submounts along as they are.

    Raises:
        Refusal: a setting is not of the network.
    """
    root, hooks = config.get("root"), config.setdefault("hooks", {})
    if not isinstance(sysctls, list) or not isinstance(hooks, dict) or not isinstance(root, dict):
        raise Refusal("sysctls is no list")
    top = os.path.join(bundle, root["path"])
    own, table = os.path.join(bundle, "boot_id"), os.path.join(bundle, "settings.fstab")
    entries = [(own, top + _BOOT_ID, "bind,ro")]
    for path in sysctls:
        if not isinstance(path, str) or not path.startswith("/proc/sys/net/") or os.path.normpath(path) != path:
            raise Refusal(f"{path!r} is no setting of a network")
        entries.append((top + path, top + path, "bind,rw,nofail"))
    entries += [(source, top + place, "bind,ro,nofail") for source, place in in_proc or []]
    with open(own, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o444)
        file.write(new_identity() + "\n")
    with open(table, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{escaped(source)} {escaped(place)} none {how} 0 0\n" for source, place, how in entries)
    call = ["sh", "-c", _MOUNT_ALL, "sh", top + _BOOT_ID, table]
    hooks.setdefault("createContainer", []).append({"path": "/bin/sh", "args": call, "env": [_PATH]})


def new_identity() -> str:
    """Return a random UUID (RFC 9562, version 4), as the kernel itself makes one for each reader."""
    with open("/proc/sys/kernel/random/uuid", encoding="ascii") as file:
        return file.read().strip()


def escaped(path: str) -> str:
    """Write a path as fstab(5) has it."""
    return re.sub(r"[\s\\]", lambda found: f"\\{ord(found.group()):03o}", path)


# Volumes: block devices that are a server's own.

DEVICE_KEYS = {"name", "link", "major", "minor", "access", "rates"}
RATES = (
    *("throttleReadBpsDevice", "throttleWriteBpsDevice"),
    *("throttleReadIOPSDevice", "throttleWriteIOPSDevice"),
)  # in the runtime's words
_DISK_MODE, _DISK_GROUP = 0o660, 6  # the group's number is the same in every distribution
# Nothing of the server has run yet, but what its image calls /dev may be a link, which leads to the host's here.
_LINK_ALL = (
    'cd "$1" && shift || exit 1; for step in dev disk by-id; do '
    '[ ! -L "$step" ] || { echo "/dev of the image is a link" >&2; exit 1; }; '
    'mkdir -p "$step" && cd "$step" || exit 1; done; '
    'while [ $# -gt 1 ]; do ln -s "../../$1" "$2" || exit 1; shift 2; done'
)


def give_devices(config: dict[str, object], bundle: str, wanted: object) -> None:
    """Give a server the nodes of its volumes, and the right to use exactly those.

    Raises:
        Refusal: one is no device of a volume.
    """
    linux, root, hooks = config["linux"], config.get("root"), config.setdefault("hooks", {})
    if not isinstance(wanted, list) or not isinstance(linux, dict) or not isinstance(hooks, dict):
        raise Refusal("devices is no list")
    if not wanted or not isinstance(root, dict):
        return
    resources = linux["resources"] = linux.get("resources") or {}
    links = []
    for device in wanted:
        check_device(device)
        number = {"major": device["major"], "minor": device["minor"]}
        owner = {"fileMode": _DISK_MODE, "uid": 0, "gid": _DISK_GROUP}
        node = {"path": f"/dev/{device['name']}", "type": "b", **number, **owner}
        linux["devices"] = [*(linux.get("devices") or []), node]
        rule = {"allow": True, "type": "b", **number, "access": device["access"]}
        resources["devices"] = [*(resources.get("devices") or []), rule]
        bound_rates(resources, number, device["rates"])
        links += [device["name"], device["link"]]
    call = ["sh", "-c", _LINK_ALL, "sh", os.path.join(bundle, root["path"]), *links]
    hooks.setdefault("createContainer", []).append({"path": "/bin/sh", "args": call, "env": [_PATH]})


def bound_rates(resources: dict[str, object], number: dict[str, int], rates: list[int]) -> None:
    """Bound what the server reads and writes on a device."""
    for name, rate in zip(RATES, rates, strict=True):
        if rate:
            bounds = resources["blockIO"] = resources.get("blockIO") or {}
            if isinstance(bounds, dict):
                bounds[name] = [*(bounds.get(name) or []), {**number, "rate": rate}]


def check_device(device: object) -> None:
    """Refuse what is no device of a volume: a rule without exact numbers would be for all devices of the host.

    Raises:
        Refusal: naming it.
    """
    if not isinstance(device, dict) or set(device) != DEVICE_KEYS:
        raise Refusal(f"{device!r} is no device")
    numbers = [device["major"], device["minor"], *device["rates"]]
    if any(type(number) is not int or number < 0 for number in numbers) or len(device["rates"]) != len(RATES):
        raise Refusal(f"{device!r} has no numbers")
    names = re.fullmatch(r"vd[a-z]{1,2}", str(device["name"])), re.fullmatch(r"virtio-[\w-]{1,20}", str(device["link"]))
    if not all(names) or device["access"] not in ("r", "rw"):
        raise Refusal(f"{device!r} is no device of a volume")


# A root file system on a volume.

HALF_LABEL, WHOLE_LABEL = b"dockstack-half", b"dockstack-root"
"""What ext4's label says of a volume that is to be filled with a container's files, and of one that is."""
ROOT_VOLUME_KEYS = {"major", "minor", "rates"}
_SUPERBLOCK, _MAGIC, _LABEL = 1024, slice(56, 58), slice(120, 136)  # ext4: struct ext4_super_block
_BLOCKS, _BLOCK_SIZE = 4, 24  # in it: how many, and their size as a power of two above 1 KiB
_SLACK = 16 << 20  # bytes: less is not worth growing a file system for
_NOBODY = 65534
_FREE_SECONDS = 15.0  # that the last process of an earlier start may keep the volume
_CHECK_MEMORY, _CHECK_SECONDS = 2 << 30, 600
_REPAIRED = 1  # e2fsck(8)'s exit status
# linux/sched.h, linux/mount.h
_CLONE_NEWNS, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 0x20000, 2, 4, 8, 0x4000, 1 << 19


def root_place(bundle: str) -> str:
    """Return where a volume is mounted before it is a container's root: an empty directory to everybody else.

    It has to be one, as the runtime begins there whenever it runs something in the container.
    """
    return os.path.join(bundle, "volume")


def take_root(config: dict[str, object], bundle: str, wanted: object) -> None:
    """Give a server the file system on its volume for its root, filled from the engine's at its first start.

    It is mounted in a namespace of this process and of what it becomes, so nothing is mounted on the host, and with
    the server's last process it is unmounted. What is on it is anybody's: it is checked without rights before.

    Raises:
        Refusal: it cannot be had, is damaged, or has no room.
    """
    root, linux = config["root"], config["linux"]
    if wanted is None or not isinstance(root, dict) or not isinstance(linux, dict):
        return
    if not isinstance(wanted, dict) or set(wanted) != ROOT_VOLUME_KEYS:
        raise Refusal(f"{wanted!r} is no root file system")
    numbers = [wanted["major"], wanted["minor"], *wanted["rates"]]
    if any(type(number) is not int or number < 0 for number in numbers) or len(wanted["rates"]) != len(RATES):
        raise Refusal(f"{wanted!r} has no numbers")
    place, engines = root_place(bundle), os.path.join(bundle, root["path"])
    desk = place + "-device"  # in /proc/mounts, the server sees the name of the node in it, and no more
    for directory in (place, desk):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    call_kernel("unshare", _CLONE_NEWNS)
    call_kernel("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
    call_kernel("mount", b"tmpfs", desk.encode(), b"tmpfs", _MS_NOSUID | _MS_NOEXEC, b"size=64k,mode=711")
    node = os.path.join(desk, "vda")
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(wanted["major"], wanted["minor"]))
    os.chown(node, _NOBODY, _NOBODY)
    await_unmounted(node)
    label = check_root(node)
    mount_root(node, place)
    if label == HALF_LABEL:
        run_tool(["cp", "-a", engines + "/.", place], "the container's files could not be put on its volume")
        call_kernel("umount2", place.encode(), 0)
        run_tool(["tune2fs", "-L", WHOLE_LABEL.decode(), node], "its volume could not be labelled")
        mount_root(node, place)
    root["path"] = place
    resources = linux["resources"] = linux.get("resources") or {}
    bound_rates(resources, {"major": wanted["major"], "minor": wanted["minor"]}, wanted["rates"])


def mount_root(node: str, place: str) -> None:
    """Mount a root file system, whose device the server sees by its name alone."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(os.path.dirname(node))
        name = os.path.basename(node).encode()
        call_kernel("mount", name, place.encode(), b"ext4", _MS_NODEV, b"errors=remount-ro")
        os.fchdir(here)
    finally:
        os.close(here)


def await_unmounted(node: str) -> None:
    """Wait until nobody has a device mounted any more.

    Raises:
        Refusal: somebody has it for too long.
    """
    deadline = time.monotonic() + _FREE_SECONDS
    while True:
        try:
            os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > deadline:
                raise Refusal("the server's volume is mounted still: an earlier process of it has not ended") from None
            time.sleep(0.05)
        else:
            return


def check_root(node: str) -> bytes:
    """Have a root file system whole, and as large as its volume; return its label.

    Raises:
        Refusal: it is damaged, or none.
    """
    with open(node, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(_SUPERBLOCK)
        head = file.read(1024)
    if head[_MAGIC] != b"\x53\xef":
        raise Refusal("there is no ext4 on the server's volume")
    desk, name = os.path.split(node)
    if run_without_rights(["e2fsck", "-fp", name], desk) > _REPAIRED:
        raise Refusal(
            "the root file system on the server's volume is damaged: attach it to another server, and run e2fsck -f"
        )
    blocks = int.from_bytes(head[_BLOCKS : _BLOCKS + 4], "little")
    bytes_each = 1024 << min(int.from_bytes(head[_BLOCK_SIZE : _BLOCK_SIZE + 4], "little"), 6)
    if size - blocks * bytes_each >= _SLACK and run_without_rights(["resize2fs", name], desk):
        sys.stderr.write("dockstack-runtime: the root file system could not be made as large as its volume\n")
    return head[_LABEL].rstrip(b"\0")


def run_without_rights(command: list[str], directory: str) -> int:
    """Run a program as nobody, with limits, in a directory; return its exit status."""
    import resource  # noqa: PLC0415 - most servers' roots are on no volume
    import subprocess  # noqa: PLC0415

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_CHECK_MEMORY, _CHECK_MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_CHECK_SECONDS, _CHECK_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env=TOOLS,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            preexec_fn=bound,
        )
    except FileNotFoundError:
        raise Refusal(f"there is no {command[0]} on this host: install e2fsprogs") from None
    return int(done.returncode) & 0xFF


def run_tool(command: list[str], failure: str) -> None:
    """Run a program of the host's.

    Raises:
        Refusal: it failed; with its last words.
    """
    import subprocess  # noqa: PLC0415 - as above

    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, env=TOOLS)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise Refusal(f"{failure}: {said[-300:]}")


def call_kernel(name: str, *arguments: object) -> None:
    """Call what Python has no word for.

    Raises:
        Refusal: the kernel refused.
    """
    import ctypes  # noqa: PLC0415 - as above

    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        code = ctypes.get_errno()
        raise Refusal(f"the server's volume cannot be mounted ({name}: {os.strerror(code)})")


# Optional mounts: a file system that does not answer is left out.

_ANSWER_SECONDS = 3
_MOST_DESCRIPTORS = 1024


def all_answer(paths: list[str]) -> bool:
    """Whether the file systems that these paths are on answer, which one that hangs does not.

    Whoever asks a file system waits for its answer, so a child asks. A signal does not always end that child: if LXCFS
    took the question and hangs over it, the kernel keeps the child until LXCFS ends. So nobody waits for it, and it has
    closed what it shared with this process: the engine takes a start for done when the last one closes its output.
    """
    child = os.fork()
    if not child:
        os.closerange(0, _MOST_DESCRIPTORS)
        for path in paths:
            os.path.exists(path)
        os._exit(0)
    descriptor = os.pidfd_open(child)
    try:
        answered = bool(select.select([descriptor], [], [], _ANSWER_SECONDS)[0])
    finally:
        os.close(descriptor)
    if answered:
        os.waitpid(child, 0)
    else:
        os.kill(child, signal.SIGKILL)
        sys.stderr.write("dockstack-runtime: what servers see of their machine does not answer; left out\n")
    return answered


# The root file systems of stopped containers, for rescue.

OVERLAY_KEYS = {"lower", "upper", "work", "destination"}
ROOT_KEYS = {"source", "destination"}
_MOUNT_DATA = 4000  # mount(2) takes a page; some of it is the kernel's
_SUBVOLUME_INODE = 256  # linux/btrfs_tree.h: BTRFS_FIRST_FREE_OBJECTID


def add_overlays(config: dict[str, object], wanted: object) -> None:
    """Append the root file systems of stopped containers to config.json's mounts.

    The runtime mounts them in the container's own mount namespace: nothing is mounted on the host, and with the
    container's last process the mount is gone.

    Raises:
        Refusal: one is not made of directories of overlay2.
    """
    mounts = config.setdefault("mounts", [])
    if not isinstance(wanted, list) or not isinstance(mounts, list):
        raise Refusal("overlays is no list")
    for overlay in wanted:
        if not isinstance(overlay, dict) or set(overlay) != OVERLAY_KEYS or not isinstance(overlay["lower"], list):
            raise Refusal(f"{overlay!r} is no root file system")
        check_destination(overlay["destination"])
        lower = [check_layer(path, "diff") for path in overlay["lower"]]
        upper, work = check_layer(overlay["upper"], "diff"), check_layer(overlay["work"], "work")
        if not lower or os.path.dirname(upper) != os.path.dirname(work) or upper in lower:
            raise Refusal(f"{overlay!r} is no root file system")
        options = overlay_options(lower, upper, work)
        if len(options) > _MOUNT_DATA:
            options = overlay_options([shortened(path) for path in lower], upper, work)
        if len(options) > _MOUNT_DATA:
            raise Refusal(f"a root file system of {len(lower)} layers is too deep to be mounted")
        entry = {"destination": overlay["destination"], "type": "overlay", "source": "overlay"}
        mounts.append({**entry, "options": [*options.split(","), "nodev"]})


def overlay_options(lower: list[str], upper: str, work: str) -> str:
    """Say how the kernel mounts an overlay, as the engine itself does it."""
    return f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work},index=off"


def check_layer(path: object, kind: str) -> str:
    """Return the path of a layer's directory; whatever stands elsewhere is no tenant's to see.

    Raises:
        Refusal: it is something else, a link, or not there.
    """
    if not isinstance(path, str) or not re.fullmatch(rf"(/[\w.-]+)+/overlay2/[0-9a-f]{{64}}(-init)?/{kind}", path):
        raise Refusal(f"{path!r} is no layer of overlay2")
    if os.path.realpath(path) != path or not os.path.isdir(path):
        raise Refusal(f"the layer {path} cannot be had")
    return path


def shortened(path: str) -> str:
    """Return overlay2's own short name of a layer, as the kernel takes no more than a page of options."""
    layer = os.path.dirname(path)
    with open(os.path.join(layer, "link"), encoding="ascii") as file:
        link = os.path.join(os.path.dirname(layer), "l", file.read(64).strip())
    return link if os.path.realpath(link) == path else path


def add_roots(config: dict[str, object], wanted: object) -> None:
    """Append the root file systems of stopped containers that are one subvolume of btrfs to config.json's mounts.

    Raises:
        Refusal: one is something else.
    """
    mounts = config.setdefault("mounts", [])
    if not isinstance(wanted, list) or not isinstance(mounts, list):
        raise Refusal("roots is no list")
    for root in wanted:
        if not isinstance(root, dict) or set(root) != ROOT_KEYS:
            raise Refusal(f"{root!r} is no root file system")
        check_destination(root["destination"])
        path = root["source"]
        if not isinstance(path, str) or not re.fullmatch(r"(/[\w.-]+)+/btrfs/subvolumes/[0-9a-f]{64}", path):
            raise Refusal(f"{path!r} is no subvolume of a container")
        if os.path.realpath(path) != path or os.stat(path).st_ino != _SUBVOLUME_INODE:
            raise Refusal(f"the subvolume {path} cannot be had")
        mounts.append({**root, "type": "bind", "options": ["bind", "rw", "nodev", "rprivate"]})


# The disk's limit.

# The ioctl requests by which whoever may write a file gets out of its quota, by file system: which bits of a request
# tell, which values of them are refused, and which requests are not for all that.
# btrfs: all of its own (linux/btrfs.h: the type byte), such as making a subvolume, which counts for itself; but for
# FICLONE, FICLONERANGE and FIDEDUPERANGE, which every file system knows.
# xfs: FS_IOC_FSSETXATTR and FS_IOC_SETFLAGS (linux/fs.h), which give a file to another project, by type and number.
_DISK_GUARDS = {
    "btrfs": (0xFF00, (0x9400,), (0x40049409, 0x4020940D, 0xC0189436)),
    "xfs": (0xFFFF, (0x5820, 0x6602), ()),
}
# Since Linux 6.17 a call of its own sets what FS_IOC_FSSETXATTR sets: file_setattr(2).
_SETS_ATTRIBUTES = "file_setattr"


def guard_disk(config: dict[str, object], file_system: object) -> None:
    """Let no process get out of its server's quota by an ioctl, or by the system call that does the same.

    No mount option or capability keeps anybody from that. The seccomp profile allows ioctl whatever its request is;
    here, only requests that are not refused, each group of them by a rule of its own, as a profile cannot say "not".
    A server without a profile is a privileged one.

    Raises:
        Refusal: the file system is not known.
    """
    if not file_system:
        return
    if file_system not in _DISK_GUARDS:
        raise Refusal(f"there is no guard of disks on {file_system!r}")
    bits, refused, others = _DISK_GUARDS[str(file_system)]
    linux = config["linux"]
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    if not seccomp:
        return
    allowing = [rule for rule in seccomp["syscalls"] if "ioctl" in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"]
    for rule in allowing:
        rule["names"] = [name for name in rule["names"] if name != "ioctl"]
    refuse_call(seccomp, _SETS_ATTRIBUTES)
    seccomp["syscalls"] = [rule for rule in seccomp["syscalls"] if rule["names"]]
    if allowing:
        action = "SCMP_ACT_ALLOW"
        tests = [*complement(bits, refused), *((0xFFFFFFFF, request) for request in others)]
    else:  # the profile allows what it does not name
        action, tests = "SCMP_ACT_ERRNO", [(bits, value) for value in refused]
    seccomp["syscalls"] += [
        {
            "names": ["ioctl"],
            "action": action,
            "args": [{"index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for mask, value in tests
    ]


_BOOTS = ("kexec_load", "kexec_file_load")
_REBOOT = "CAP_SYS_BOOT"


def guard_kernel(config: dict[str, object]) -> None:
    """Let whoever may call reboot(2), which ends no more than a server, not load another kernel by the same right.

    The engine's own profile does not allow that anyway; an operator's might, and an engine may have none. A server that
    may load modules is a privileged one, whose root is the host's.
    """
    linux, process = config["linux"], config.get("process")
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    if isinstance(seccomp, dict) and seccomp.get("syscalls"):
        for name in _BOOTS:
            refuse_call(seccomp, name)
        seccomp["syscalls"] = [rule for rule in seccomp["syscalls"] if rule["names"]]
        return
    capabilities = process.get("capabilities") if isinstance(process, dict) else None
    for names in capabilities.values() if isinstance(capabilities, dict) else ():
        if _REBOOT in names and "CAP_SYS_MODULE" not in names:
            names.remove(_REBOOT)


# What mount(2)'s callers try first since util-linux 2.39; without it they fall back to mount(2).
_NEW_MOUNTS = ("fsopen", "fspick", "open_tree", "fsconfig", "fsmount", "move_mount", "mount_setattr")
_MOUNTS = ("mount", "umount2")
_NO_SUCH_CALL = 38  # ENOSYS


def give_mounts(config: dict[str, object], namespace: str, policy: object, path: object) -> None:
    """Have a server's mount(2) answered by the host's mount broker, where the host has one.

    A server that may mount by a right of its own keeps that, and one without a profile is a privileged one.

    Args:
        config: the container's.
        namespace: of its network, which has the server's uuid in its name.
        policy: how it may mount; nothing: not at all.
        path: the socket where a runtime leaves what calls are answered by; if its owner may not write to it, it is
            there for the servers that run already.

    Raises:
        Refusal: the socket could be somebody else's.
    """
    linux = config["linux"]
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None
    if not policy or not isinstance(path, str) or not isinstance(seccomp, dict) or not seccomp.get("syscalls"):
        return
    if any(_MOUNTS[0] in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW" for rule in seccomp["syscalls"]):
        return
    try:
        found, above = os.lstat(path), os.lstat(os.path.dirname(path))
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid or above.st_uid or above.st_mode & 0o022:
        raise Refusal(f"{path} is no socket of the mount broker")
    if not found.st_mode & stat.S_IWUSR:
        return
    for name in (*_MOUNTS, *_NEW_MOUNTS):
        refuse_call(seccomp, name)
    ours = {*_MOUNTS, *_NEW_MOUNTS}
    seccomp["syscalls"] = [rule for rule in seccomp["syscalls"] if rule["names"] and not set(rule["names"]) <= ours]
    seccomp["syscalls"] += [
        {"names": list(_MOUNTS), "action": "SCMP_ACT_NOTIFY"},
        {"names": list(_NEW_MOUNTS), "action": "SCMP_ACT_ERRNO", "errnoRet": _NO_SUCH_CALL},
    ]
    server = os.path.basename(namespace)[len(NAMESPACE_PREFIX) :]
    seccomp["listenerPath"] = path
    seccomp["listenerMetadata"] = json.dumps({"server": server, "policy": policy})


def refuse_call(seccomp: dict[str, object], name: str) -> None:
    """Take a system call out of every rule of a profile, so that it is refused.

    A rule that says what the profile does by default anyway is an error to the runtime; a name that it does not know is
    none.

    Args:
        seccomp: the profile, in the runtime's words.
        name: the call.

    Raises:
        Refusal: the profile has no rules.
    """
    rules = seccomp["syscalls"]
    if not isinstance(rules, list):
        raise Refusal("config.json has a seccomp profile without rules")
    for rule in rules:
        rule["names"] = [other for other in rule["names"] if other != name]
    if seccomp.get("defaultAction") in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        rules.append({"names": [name], "action": "SCMP_ACT_ERRNO"})


def complement(bits: int, values: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return masks and values which match every number but those that have one of the values in the given bits."""
    found: list[tuple[int, int]] = []
    waiting = [(0, 0, values)]
    while waiting:
        mask, prefix, left = waiting.pop()
        if not left:
            found.append((mask, prefix))
        elif bits & ~mask:
            bit = 1 << (bits & ~mask).bit_length() - 1  # the highest that is not decided yet
            waiting += [
                (mask | bit, prefix | half, tuple(value for value in left if value & bit == half)) for half in (0, bit)
            ]
    return found


# The end of a refused start.

END_SECONDS = 5.0  # that a refused container's first process may take to end


def end(runtime: str, call: list[str]) -> None:
    """End what was created of a container whose start is refused.

    Its first process waits already, and the engine, which takes a refused start for one that left nothing, would forget
    it and its shim with all that they hold.
    """
    import subprocess  # noqa: PLC0415 - a seventh of what every start takes, and hardly any start is refused

    identity = find_started(call)
    if identity is None:
        return
    _, words = find_command(call)
    options = call[: len(call) - len(words) - 1]
    subprocess.run([runtime, *options, "kill", identity, "KILL"], check=False, capture_output=True)
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        state = subprocess.run([runtime, *options, "state", identity], check=False, capture_output=True)
        if state.returncode or b'"stopped"' in state.stdout:
            return
        time.sleep(0.02)


def report(call: list[str], message: str) -> None:
    """Say it where the engine looks for a runtime's errors: the file that --log names; and on standard error."""
    sys.stderr.write(message + "\n")
    path = ""
    for index, word in enumerate(call):
        if word == "--log" and index + 1 < len(call):
            path = call[index + 1]
    if path:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"level": "error", "msg": message, "time": now}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

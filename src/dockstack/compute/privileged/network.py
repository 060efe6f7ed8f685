# SPDX-License-Identifier: Apache-2.0
"""Network namespaces and the links in them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import TC_H_ROOT

from dockstack import names
from dockstack.compute.privileged import context
from dockstack.compute.privileged.kernel import checked, in_thread, libc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

NAMESPACES = names.NAMESPACES

_NAME = re.compile(r"nova-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_DEVICE = re.compile(r"tap[0-9a-f-]{1,11}")
_INTERFACE = re.compile(r"eth[0-9]{1,3}")  # becomes a part of paths below /proc/sys

# linux/sched.h, linux/mount.h, linux/if_addr.h, linux/rtnetlink.h
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 0x1000, 0x4000, 0x100000, 0x2
_IFA_F_NODAD = 0x02
_RT_SCOPE_LINK = 253
# Our mark on addresses and routes: what bears it is ours to take away again. linux/if_addr.h and linux/rtnetlink.h
# leave such numbers to user space. Kernels before 5.18 keep none on addresses: there one stays until the machine's end.
_OURS = 0xD5

# linux/ethtool.h, linux/sockios.h, linux/if.h
_ETHTOOL_STXCSUM = 0x17
_SIOCETHTOOL = 0x8946
_IFNAMSIZ, _IFREQ_BYTES = 16, 40

_TBF = 0x10000  # the handle of a device's only queue of ours
_LATENCY = "50ms"  # what waits longer than this is dropped, and so slows its sender down

# The host's end carries frames between server and switch; the host's own stack must neither answer nor route them.
# Needed where the switch reads the device beside the stack, as Open vSwitch's userspace datapath does.
_HOST_END = {
    "ipv6/conf/{}/disable_ipv6": "1",
    "ipv4/conf/{}/arp_ignore": "8",
    "ipv4/conf/{}/rp_filter": "1",
    "ipv4/conf/{}/forwarding": "0",
}
# An address must be usable when the first process starts: no duplicate address detection (Neutron's are unique),
# and no router advertisements, since addresses and routes are all set here.
_SERVER_END = {
    "ipv4/conf/{}/promote_secondaries": "1",  # else a subnet's first address takes the others with it when it goes
    "ipv4/conf/{}/arp_ignore": "1",  # else each of several NICs on a network answers for the others' addresses
    "ipv4/conf/{}/arp_announce": "2",
    "ipv6/conf/{}/disable_ipv6": "0",
    "ipv6/conf/{}/accept_dad": "0",
    "ipv6/conf/{}/dad_transmits": "0",
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/autoconf": "0",
}


@context.entrypoint
def create_namespace(name: str) -> None:
    """Make a named network namespace with its loopback up."""
    path = _namespace(name)
    with _namespaces_locked():
        if not _is_namespace(path):
            path.touch(mode=0o444)
            in_thread(_bind_new_namespace, path)
    _inside(path, _loopback_up)


@context.entrypoint
def delete_namespace(name: str) -> None:
    """Remove a namespace's name; the kernel removes the rest with its last process."""
    path = _namespace(name)
    with _namespaces_locked():
        if not path.exists():
            return
        while libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
            pass  # once for every mount on it
        path.unlink(missing_ok=True)


@context.entrypoint
def wire(namespace: str, device: str, nic: dict[str, Any]) -> None:
    """Join the host and a namespace by a veth pair and configure the server's end completely.

    Args:
        namespace: the namespace's name.
        device: the host's end.
        nic: the server's end: interface (its name), mac, mtu, addresses ("10.0.0.5/24"),
            routes ([destination, gateway or "", metric, on link, table]), table (its own), sources (the addresses for
            which that table decides), offload (whether checksums may stay unfinished), inbound and outbound ([bytes a
            second, bytes at once], empty for no limit).
    """
    _check_device(device)
    _check_interface(nic["interface"])
    path = _namespace(namespace)
    index = _inside(path, lambda ip: ip.link_lookup(ifname=nic["interface"]))
    with _netlink() as ip, _named(f"device {device} with {nic['interface']}"):
        if not index or _peer_index(ip, device) != index[0]:
            _delete_link(ip, device)
            _create_pair(ip, path, device, nic)
        for key, value in _HOST_END.items():
            _sysctl(key.format(device), value)
        ip.link("set", ifname=device, mtu=nic["mtu"], ifalias=namespace, state="up")
        _shape(ip, device, nic["inbound"])
    _inside(path, lambda ip: _configure(ip, nic))


@context.entrypoint
def delete_device(device: str) -> None:
    """Remove the host's end of a pair, and with it the server's."""
    _check_device(device)
    with _netlink() as ip:
        _delete_link(ip, device)


@context.entrypoint
def lower_device(device: str) -> None:
    """Take the host's end of a pair down: the server's end keeps its addresses and routes, but no frame passes."""
    _set_state(device, "down")


@context.entrypoint
def raise_device(device: str) -> None:
    """Bring the host's end of a pair up."""
    _set_state(device, "up")


@context.entrypoint
def interfaces(namespace: str) -> list[dict[str, Any]]:
    """Describe a namespace's links but the loopback: index, name, mac, mtu, up, addresses; empty if it is not there."""
    path = _namespace(namespace)
    return _inside(path, _describe_links) if _is_namespace(path) else []


def _namespace(name: str) -> Path:
    """Refuse what is no name of ours: the caller may be compromised, root must not."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a server's namespace")
    return NAMESPACES / name


def _check_device(device: str) -> None:
    if not _DEVICE.fullmatch(device):
        raise ValueError(f"{device!r} is no name of a server's tap device")


def _check_interface(interface: str) -> None:
    if not _INTERFACE.fullmatch(interface):
        raise ValueError(f"{interface!r} is no name of a server's interface")


def _is_namespace(path: Path) -> bool:
    """Whether something of the kernel's namespace file system is mounted here, and not only an empty file left over."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


@contextmanager
def _namespaces_locked() -> Iterator[None]:
    """Hold the lock that iproute2 holds too, with /run/netns shared, so that other mount namespaces see it."""
    NAMESPACES.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(NAMESPACES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        directory = os.fsencode(NAMESPACES)
        if libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None) != 0:
            checked(libc.mount(directory, directory, b"none", _MS_BIND | _MS_REC, None), "binding /run/netns")
            checked(libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None), "sharing /run/netns")
        yield
    finally:
        os.close(descriptor)


def _bind_new_namespace(path: Path) -> None:
    checked(libc.unshare(_CLONE_NEWNET), "making a network namespace")
    source = b"/proc/thread-self/ns/net"
    checked(libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None), f"mounting {path}")


def _inside(path: Path, work: Callable[[Any], T]) -> T:
    """Run ``work`` with a netlink socket of the namespace."""

    def enter() -> T:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(libc.setns(descriptor, _CLONE_NEWNET), f"entering {path}")
        finally:
            os.close(descriptor)
        with _netlink() as ip:
            return work(ip)

    return in_thread(enter)


@contextmanager
def _netlink() -> Iterator[Any]:
    """Open a netlink socket in this thread's namespace; errors become OSError, which survives the way to the client."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise OSError(error.code, f"netlink: {os.strerror(error.code)}") from error


@contextmanager
def _named(subject: str) -> Iterator[None]:
    """Let an error say which of many settings the kernel refused."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, f"{subject}: {os.strerror(error.code)}") from error


def _loopback_up(ip: Any) -> None:
    ip.link("set", index=1, state="up")


def _peer_index(ip: Any, device: str) -> int | None:
    """Return the index that the other end of a pair has in its own namespace; None if there is no such device."""
    found = ip.link_lookup(ifname=device)
    return ip.get_links(found[0])[0].get("link") if found else None


def _delete_link(ip: Any, device: str) -> None:
    try:
        ip.link("del", ifname=device)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _set_state(device: str, state: str) -> None:
    _check_device(device)
    with _netlink() as ip:
        index = ip.link_lookup(ifname=device)
        if index:
            ip.link("set", index=index[0], state=state)


def _create_pair(ip: Any, path: Path, device: str, nic: dict[str, Any]) -> None:
    """Create both ends in one call, the server's at once in its namespace: no half of it can be left over."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = {"ifname": nic["interface"], "net_ns_fd": descriptor, "address": nic["mac"], "mtu": nic["mtu"]}
        ip.link("add", ifname=device, kind="veth", mtu=nic["mtu"], peer=peer)
    finally:
        os.close(descriptor)


def _sysctl(key: str, value: str) -> None:
    """Set a network variable of this thread's namespace; a kernel without IPv6 has none of its."""
    path = Path("/proc/sys/net", key)
    if path.exists():
        path.write_text(value)


def _offload_checksums(interface: str, *, wanted: bool) -> None:
    """Switch the transmission checksums' offload of a link in this thread's namespace, and so its segmentation's."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, wanted))
    request = struct.pack(f"{_IFNAMSIZ}sP", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        fcntl.ioctl(link, _SIOCETHTOOL, request.ljust(_IFREQ_BYTES, b"\0"))


def _configure(ip: Any, nic: dict[str, Any]) -> None:
    for key, value in _SERVER_END.items():
        _sysctl(key.format(nic["interface"]), value)
    index = ip.link_lookup(ifname=nic["interface"])[0]
    _offload_checksums(nic["interface"], wanted=nic["offload"])
    ip.link("set", index=index, address=nic["mac"], mtu=nic["mtu"], state="up")
    _shape(ip, nic["interface"], nic["outbound"])
    _configure_addresses(ip, index, nic["addresses"])
    _configure_routes(ip, index, nic)
    _configure_rules(ip, nic["table"], nic["sources"])


def _configure_addresses(ip: Any, index: int, wanted: list[str]) -> None:
    """Give the NIC these addresses and take those that it had of us; an owner's own bear no mark and stay."""
    for address in wanted:
        host, _, prefix = address.partition("/")
        flags = {"flags": _IFA_F_NODAD} if ":" in host else {}
        with _named(f"address {address}"):
            ip.addr("replace", index=index, address=host, prefixlen=int(prefix), proto=_OURS, **flags)
    for entry in list(ip.get_addr(index=index)):
        found = f"{entry.get('address')}/{entry['prefixlen']}"
        if entry.get("proto") == _OURS and found not in wanted:
            ip.addr("del", index=index, address=entry.get("address"), prefixlen=entry["prefixlen"])


def _configure_routes(ip: Any, index: int, nic: dict[str, Any]) -> None:
    """Set the NIC's routes and take those that it had of us: they have its metric or stand in its table."""
    wanted = set()
    for destination, gateway, metric, on_link, table in nic["routes"]:
        route: dict[str, Any] = {"dst": destination, "oif": index, "priority": metric, "table": table, "proto": _OURS}
        if gateway:
            route |= {"gateway": gateway, "flags": ["onlink"] if on_link else []}
        else:
            route["scope"] = _RT_SCOPE_LINK
        with _named(f"route {destination} via {gateway or 'the link'}"):
            ip.route("replace", **route)
        wanted.add((destination, table))
    for family, default in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
        for entry in list(ip.get_routes(family=family, oif=index)):
            destination = f"{entry.get('dst')}/{entry['dst_len']}" if entry.get("dst") else default
            if entry["proto"] == _OURS and (destination, entry.get("table")) not in wanted:
                ip.route("del", dst=destination, oif=index, table=entry.get("table"), priority=entry.get("priority"))


def _configure_rules(ip: Any, table: int, sources: list[str]) -> None:
    """Let the NIC's own table decide where these source addresses send to, and no others."""
    for family in (socket.AF_INET, socket.AF_INET6):
        there = {rule.get("src"): rule for rule in ip.get_rules(family=family) if rule.get("table") == table}
        wanted = {source for source in sources if (":" in source) == (family == socket.AF_INET6)}
        for source in sorted(wanted - there.keys()):
            length = 128 if ":" in source else 32
            with _named(f"rule from {source}"):
                ip.rule("add", family=family, src=source, src_len=length, table=table, priority=table)
        for source in there.keys() - wanted:
            ip.rule("del", family=family, src=source, src_len=there[source]["src_len"], table=table, priority=table)


def _shape(ip: Any, device: str, rate: list[int]) -> None:
    """Let a device send no more than a rate (tc-tbf(8)); both ends of a pair send, so both directions are limited.

    Not by policing what a device receives: a switch that reads it beside the stack would see all. The server's end is
    in its namespace, where changing it takes a capability that servers do not have.
    """
    index = ip.link_lookup(ifname=device)[0]
    shaped = any(q.get_attr("TCA_KIND") == "tbf" for q in ip.get_qdiscs(index=index))
    if rate:
        with _named(f"the rate of {device}"):
            verb = "replace" if shaped else "add"
            ip.tc(verb, "tbf", index=index, handle=_TBF, rate=rate[0], burst=rate[1], latency=_LATENCY)
    elif shaped:
        ip.tc("del", index=index, handle=_TBF, parent=TC_H_ROOT)


def _describe_links(ip: Any) -> list[dict[str, Any]]:
    addresses: dict[int, list[str]] = {}
    for entry in ip.get_addr():
        addresses.setdefault(entry["index"], []).append(f"{entry.get('address')}/{entry['prefixlen']}")
    return [
        {
            "index": link["index"],
            "name": link.get("ifname"),
            "mac": link.get("address"),
            "mtu": link.get("mtu"),
            "up": link["state"] == "up",
            "addresses": sorted(addresses.get(link["index"], [])),
        }
        for link in ip.get_links()
        if link.get("ifname") != "lo"
    ]

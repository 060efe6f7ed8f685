# SPDX-License-Identifier: Apache-2.0
"""Every attribute there is: name, kind, default, and when to change it."""

from __future__ import annotations

import re

from dockstack.deploy import distributions
from dockstack.deploy.wanted.attributes import Attribute, Kind

# The formats that Glance 33 takes by default, without those that a hypervisor plugin adds.
GLANCE_CONTAINER_FORMATS = ["ami", "ari", "aki", "bare", "ovf", "ova", "compressed"]

WORLD = 0o007
MOST_HOSTS = 9
FLAVOR = re.compile(r"[\w.-]{1,200}:[1-9]\d{0,3}:[1-9]\d{0,7}:\d{1,6}", re.ASCII)


def _refuse_world(mode: int) -> str:
    if not mode & WORLD:
        return ""
    return "whoever can reach the engine's socket is root on this machine. Add people to docker.group instead."


def _refuse_many(count: int) -> str:
    return "" if count <= MOST_HOSTS else f"a machine takes {MOST_HOSTS} hosts at most. Use more machines."


def _refuse_version_6(network: str) -> str:
    return "the tunnels between hosts are IPv4." if ":" in network else ""


def _refuse_nothing(quota: int) -> str:
    return "" if quota else "Glance would take no image at all, not even the one that `up` makes. -1 means no limit."


def _refuse_shapeless(flavors: tuple[str, ...]) -> str:
    wrong = [flavor for flavor in flavors if not FLAVOR.fullmatch(flavor)]
    return f"{wrong[0]} is not of the form NAME:VCPUS:MEMORY_MIB:DISK_GIB, as in ci.small:1:512:2." if wrong else ""


def _refuse_suites(suites: tuple[str, ...]) -> str:
    wrong = [suite for suite in suites if suite not in SYSTEM_SUITES]
    return f"{wrong[0]} is none of Debian's suites {' and '.join(SYSTEM_SUITES)}." if wrong else ""


def _refuse_relative(path: str) -> str:
    return "" if not path or path.startswith("/") else "it is no absolute path."


SYSTEM_SUITES = ("bookworm", "trixie")
"""Of Debian's, those that system images are made of."""

CATALOGUE: tuple[Attribute, ...] = (
    Attribute(
        "release",
        Kind.STRING,
        "2026.2",
        "The OpenStack release. Choose it before the first `up`: a cloud cannot go back to an older one. With 2026.1 "
        "the driver is tested, a whole cloud is not.",
        ("2026.1", "2026.2"),
    ),
    Attribute("region", Kind.STRING, "RegionOne", "Change it when this cloud joins others in one Keystone."),
    Attribute(
        "hypervisor",
        Kind.STRING,
        "docker",
        "What servers are; `fake` boots nothing and is the floor that benchmarks compare with.",
        ("docker", "fake"),
    ),
    Attribute(
        "compatibility",
        Kind.STRING,
        "",
        "Whose suites shall run as they are: `devstack` adds its flavors, projects, users, roles, an image and the "
        "clouds of clouds.yaml. Some of these users administer the cloud: set it where it is for tests alone. Empty "
        "again, the clouds go from clouds.yaml, and the rest stays.",
        ("", "devstack"),
    ),
    Attribute(
        "hosts",
        Kind.INTEGER,
        1,
        "Compute hosts on this machine; more than one to try moves between hosts. `up --hosts N` sets it and is "
        "remembered.",
        minimum=1,
        refuse=_refuse_many,
    ),
    Attribute(
        "listen_address",
        Kind.ADDRESS,
        "127.0.0.1",
        "Address the APIs listen on; set it to an address of this machine, with tls.enable, to let others in.",
    ),
    Attribute(
        "listen_in_clear",
        Kind.BOOLEAN,
        False,
        "Let others in at listen_address without TLS (0.0.0.0: at all addresses). Passwords and tokens then cross the "
        "network in clear: only where you trust all of it.",
    ),
    Attribute(
        "public_address",
        Kind.STRING,
        "",
        "Address that the catalogue names; empty means the listen address (or this machine's own if that is 0.0.0.0).",
    ),
    # -- TLS ------------------------------------------------------------------------------------------------------
    Attribute(
        "tls.enable",
        Kind.BOOLEAN,
        False,
        "Encrypt what crosses machines: APIs, message bus, OVN's databases, consoles as far as their proxies. Not: "
        "servers' tunnels, and consoles between the proxies and a node. Turn it on where listen_address lets others "
        "in. Certificates are made, by an authority of the cloud's own.",
    ),
    Attribute(
        "tls.certificate",
        Kind.STRING,
        "",
        "File (PEM) of your own certificate for public_address, with those between it and its authority; not for OVN.",
        refuse=_refuse_relative,
    ),
    Attribute("tls.private_key", Kind.STRING, "", "File (PEM) of that certificate's key.", refuse=_refuse_relative),
    Attribute(
        "tls.authority",
        Kind.STRING,
        "",
        "File (PEM) of the authorities that vouch for that certificate; all clients trust these and no others.",
        refuse=_refuse_relative,
    ),
    Attribute("debug", Kind.BOOLEAN, False, "Let the services log at DEBUG; turn it on to hunt a fault."),
    Attribute(
        "services.backend",
        Kind.STRING,
        "auto",
        "Who supervises: auto takes systemd where it is PID 1, otherwise supervisor.",
        ("auto", "systemd", "supervisor"),
    ),
    Attribute(
        "services.fork_server",
        Kind.BOOLEAN,
        False,
        "Have OpenStack's Python services on the controller forked from a process that has imported their modules, "
        "whose memory they share: for machines that are short of memory, until it has been in use for longer. Without "
        "it each imports for itself.",
    ),
    Attribute(
        "distribution",
        Kind.STRING,
        distributions.AUTOMATIC,
        "What the machine calls packages, units and paths; auto asks it. Set it on a system that is none of these and "
        "has the packages of one.",
        (distributions.AUTOMATIC, *distributions.NAMES),
    ),
    Attribute("deploy.parallel", Kind.INTEGER, 4, "How many stages run at once; lower it on a slow disk.", minimum=1),
    Attribute("deploy.verify", Kind.BOOLEAN, True, "Boot a first server at the end of `up`."),
    Attribute(
        "deploy.map_command",
        Kind.STRING,
        "",
        "What maps new hosts to a cell, run by a shell here: `ssh controller nova-manage cell_v2 discover_hosts`; "
        "empty where controllers do so by themselves, as those of `up` do.",
    ),
    # -- the engine -----------------------------------------------------------------------------------------------
    Attribute(
        "docker.enable",
        Kind.BOOLEAN,
        True,
        "Whether a compute node runs Docker servers; decided per node. Turned off where `up` had turned it on, all "
        "that it made goes; refused as long as Nova has servers there.",
    ),
    Attribute(
        "docker.package",
        Kind.STRING,
        "",
        "The engine's package, if no engine is there yet; empty means the distribution's, with its client.",
    ),
    Attribute(
        "docker.own",
        Kind.BOOLEAN,
        False,
        "Run an engine of our own beside the machine's, with another socket, data root and containerd namespace; where "
        "that one is in a swarm, or another deployer's. Choose it with the first `up`, which remembers. Unless this is "
        "set, nodes over SSH (`node add`, and `up` for its nodes) have one where the machine's is somebody else's.",
    ),
    Attribute("docker.group", Kind.STRING, "docker", "The group that may speak to the engine; nova joins it."),
    Attribute("docker.socket", Kind.PATH, "/run/docker.sock", "The engine's socket."),
    Attribute(
        "docker.socket_mode",
        Kind.MODE,
        "660",
        "The socket's mode. Leave it: the group is the way to let somebody in.",
        refuse=_refuse_world,
    ),
    Attribute("docker.data_root", Kind.PATH, "/var/lib/docker", "Where an engine that we start keeps its data."),
    Attribute(
        "docker.storage",
        Kind.STRING,
        "directory",
        "What the data root is: a plain directory, or a file with a file system in it that holds each server to its "
        "flavor's disk (xfs only with a kernel that has its quotas). Choose it with the first `up`, which remembers.",
        ("directory", "xfs", "btrfs"),
    ),
    Attribute(
        "docker.storage_gb",
        Kind.INTEGER,
        20,
        "How large that file is, of each host; it is written out in full. Raise it, and `up` lets it grow.",
        minimum=4,
    ),
    Attribute(
        "docker.lxcfs",
        Kind.BOOLEAN,
        True,
        "Let each server see its own processors, memory, load and uptime. Turn it off on a node without FUSE.",
    ),
    # -- telemetry ------------------------------------------------------------------------------------------------
    Attribute(
        "telemetry.prometheus",
        Kind.BOOLEAN,
        False,
        "Run dockstack-exporter on nodes with Docker servers, and let nova-compute count what it does; for Prometheus.",
    ),
    Attribute(
        "telemetry.address",
        Kind.ADDRESS,
        "127.0.0.1",
        "Address the exporter listens on. It speaks plain HTTP and asks nobody who they are: give it one of a network "
        "for management only, and let none but Prometheus through.",
    ),
    # -- registry -------------------------------------------------------------------------------------------------
    Attribute(
        "registry.enable",
        Kind.BOOLEAN,
        True,
        "Run a registry on the controller: what is pushed to it is an image of Glance, and images of Glance can be "
        "pulled. It takes 60 MB of memory, and a project's pushes count against its quota of images. With "
        "release 2026.1 there is none.",
    ),
    Attribute(
        "registry.store",
        Kind.STRING,
        "/var/lib/dockstack/registry",
        "Directory on the controller for the blobs of the registry; give it a file system with room for the images.",
    ),
    # -- volumes --------------------------------------------------------------------------------------------------
    Attribute(
        "volumes.enable",
        Kind.BOOLEAN,
        False,
        "Run Cinder on the controller: volumes, snapshots and backups; and on each node with Docker servers a broker, "
        "by which these mount their volumes. It takes about 360 MB of memory. Turned off again, the services go and "
        "the volumes stay.",
    ),
    Attribute("volumes.store", Kind.PATH, "/var/lib/cinder/volumes", "Where the volumes are."),
    Attribute(
        "volumes.storage",
        Kind.STRING,
        "xfs",
        "What that is: a file with a file system in it that shares blocks between files (xfs), or a plain directory. "
        "Take the latter where it stands on xfs or btrfs, or where volumes in use need no snapshots. Choose it with "
        "the first `up`.",
        ("xfs", "directory"),
    ),
    Attribute(
        "volumes.storage_gb",
        Kind.INTEGER,
        20,
        "How large that file is; it is written out in full. Raise it, and `up` lets it grow.",
        minimum=1,
    ),
    Attribute("volumes.backups", Kind.PATH, "/var/lib/cinder/backups", "Where backups of volumes are kept."),
    # -- keys -----------------------------------------------------------------------------------------------------
    Attribute(
        "key_manager.enable",
        Kind.BOOLEAN,
        False,
        "Run Barbican on the controller, which keeps projects' secrets and the keys of encrypted volumes. It takes "
        "about 150 MB of memory. Turned off again, the service goes and the secrets stay, but nothing encrypted can "
        "be attached.",
    ),
    # -- images ---------------------------------------------------------------------------------------------------
    Attribute(
        "image.container_formats",
        Kind.APPENDED,
        GLANCE_CONTAINER_FORMATS,
        "Container formats that Glance takes; what you list is added, and a hypervisor plugin adds its own.",
    ),
    Attribute(
        "image.system",
        Kind.LIST,
        [],
        "Suites of Debian of which `up` makes images of whole systems for everybody, as in [trixie]: debian-trixie, "
        "with systemd, cloud-init and OpenSSH. Each takes a minute, Debian's archive, and 210 MB in Glance. One that "
        "is no longer named stays.",
        refuse=_refuse_suites,
    ),
    Attribute("image.store", Kind.PATH, "/var/lib/glance/images", "Where Glance keeps image data."),
    Attribute(
        "image.largest_gb",
        Kind.INTEGER,
        50,
        "How large one image may be, GiB. Lower it on a small disk: by the uploads that run at once, a project may get "
        "above its quota.",
        minimum=1,
    ),
    Attribute(
        "image.quota_gb",
        Kind.INTEGER,
        50,
        "What all images of a project may take, GiB; -1 is no limit. For one project, set a limit in Keystone.",
        minimum=-1,
        refuse=_refuse_nothing,
    ),
    Attribute(
        "image.quota_staged_gb",
        Kind.INTEGER,
        50,
        "What a project may have staged for import, GiB; -1 is no limit.",
        minimum=-1,
        refuse=_refuse_nothing,
    ),
    Attribute(
        "image.quota_count",
        Kind.INTEGER,
        1000,
        "How many images a project may have; -1 is no limit.",
        minimum=-1,
        refuse=_refuse_nothing,
    ),
    Attribute(
        "image.quota_uploads",
        Kind.INTEGER,
        100,
        "How many images of a project may be under way to Glance, staged ones included; -1 is no limit.",
        minimum=-1,
        refuse=_refuse_nothing,
    ),
    # -- networks -------------------------------------------------------------------------------------------------
    Attribute(
        "network.datapath",
        Kind.STRING,
        "auto",
        "Open vSwitch's datapath; auto takes the kernel's if it is there.",
        ("auto", "system", "netdev"),
    ),
    Attribute("network.external_name", Kind.STRING, "public", "The external network's name."),
    Attribute(
        "network.external_cidr",
        Kind.CIDR,
        "198.51.100.0/24",
        "Range of the floating IPs; change it if it is used here.",
    ),
    Attribute(
        "network.external_gateway", Kind.ADDRESS, "198.51.100.1", "This machine's address on the external bridge."
    ),
    Attribute("network.external_bridge", Kind.STRING, "br-ex", "The bridge that carries the external network."),
    Attribute(
        "network.external_bandwidth",
        Kind.INTEGER,
        10_000,
        "What a host may guarantee to ports on the external bridge's networks in all, Mbit/s each way; 0: nothing.",
        minimum=0,
    ),
    Attribute("network.physical_network", Kind.STRING, "public", "Neutron's name of the external bridge."),
    Attribute("network.tenant_name", Kind.STRING, "private", "The first tenant network's name."),
    Attribute("network.tenant_cidr", Kind.CIDR, "10.77.0.0/24", "Addresses of the first tenant network."),
    Attribute("network.tenant_cidr_v6", Kind.CIDR, "fd77::/64", "IPv6 addresses of the first tenant network."),
    Attribute(
        "network.automatic_cidr",
        Kind.CIDR,
        "10.78.0.0/16",
        "Addresses of the networks that Neutron makes by itself (`--nic auto`), at least a /26.",
    ),
    Attribute("network.router_name", Kind.STRING, "router1", "The router between the two."),
    Attribute(
        "network.dns",
        Kind.LIST,
        [],
        "Name servers of servers whose subnets name none; empty means those of this machine, but for its own loopback.",
    ),
    Attribute(
        "network.encap_ip", Kind.ADDRESS, "127.0.0.1", "Address of the tunnels between nodes; change it for many nodes."
    ),
    Attribute(
        "network.hosts_cidr",
        Kind.CIDR,
        "198.19.77.0/24",
        "Range of the network between the hosts of one machine; change it if it is used here.",
        refuse=_refuse_version_6,
    ),
    Attribute("network.nat", Kind.BOOLEAN, True, "Let servers reach the outside through this machine's address."),
    # -- sizes ----------------------------------------------------------------------------------------------------
    Attribute("workers.conductor", Kind.INTEGER, 1, "Processes of nova-conductor.", minimum=1),
    Attribute("workers.scheduler", Kind.INTEGER, 1, "Processes of nova-scheduler.", minimum=1),
    Attribute("workers.threads", Kind.INTEGER, 4, "Threads of each API process.", minimum=1),
    Attribute(
        "compute.aggregate",
        Kind.STRING,
        "",
        "The host aggregate that Docker hosts go into, by `up` and `node add`; made with properties that flavors and "
        "images can ask for where it is missing. Set it where the cloud has hosts of other kinds, too.",
    ),
    Attribute(
        "compute.flavors",
        Kind.LIST,
        [],
        "Further flavors that `up` makes, each as NAME:VCPUS:MEMORY_MIB:DISK_GIB, as in [ci.small:1:512:2]. One "
        "that is there keeps its sizes.",
        refuse=_refuse_shapeless,
    ),
    Attribute(
        "compute.cpu_allocation_ratio", Kind.FLOAT, 16.0, "vCPUs sold per core; for hosts that are new.", minimum=0.1
    ),
    Attribute(
        "compute.ram_allocation_ratio",
        Kind.FLOAT,
        1.0,
        "Memory sold per byte; above 1 it is overcommitted.",
        minimum=0.1,
    ),
    Attribute("compute.disk_allocation_ratio", Kind.FLOAT, 1.0, "Disk sold per byte.", minimum=0.1),
    Attribute("compute.reserved_memory_mb", Kind.INTEGER, 512, "Memory kept for the machine itself, MiB.", minimum=0),
    Attribute("compute.reserved_disk_mb", Kind.INTEGER, 1024, "Disk kept for the machine itself, MiB.", minimum=0),
    Attribute("compute.max_concurrent_builds", Kind.INTEGER, 10, "Servers built at once on a node.", minimum=0),
    Attribute(
        "database.buffer_pool_mb",
        Kind.INTEGER,
        64,
        "MariaDB's buffer pool, MiB; raise it for thousands of servers.",
        minimum=5,
    ),
    Attribute(
        "database.max_connections", Kind.INTEGER, 300, "MariaDB's connections; raise it with the workers.", minimum=10
    ),
    # -- ports ----------------------------------------------------------------------------------------------------
    Attribute("ports.keystone", Kind.PORT, 5000, "Identity API."),
    Attribute("ports.glance", Kind.PORT, 9292, "Image API."),
    Attribute("ports.placement", Kind.PORT, 8778, "Placement API."),
    Attribute("ports.nova", Kind.PORT, 8774, "Compute API."),
    Attribute("ports.metadata", Kind.PORT, 8775, "Nova's metadata API."),
    Attribute("ports.serial_console", Kind.PORT, 6083, "Nova's serial proxy, and the page with a terminal."),
    Attribute("ports.novnc", Kind.PORT, 6080, "Nova's noVNC proxy, and its page."),
    Attribute("ports.neutron", Kind.PORT, 9696, "Network API."),
    Attribute("ports.cinder", Kind.PORT, 8776, "Block storage API."),
    Attribute("ports.barbican", Kind.PORT, 9311, "Key manager API."),
    Attribute("ports.registry", Kind.PORT, 5005, "The registry of images."),
    Attribute("ports.rabbitmq", Kind.PORT, 5672, "Message bus."),
    Attribute("ports.rabbitmq_distribution", Kind.PORT, 25672, "Message bus, between its nodes."),
    Attribute("ports.exporter", Kind.PORT, 9958, "dockstack-exporter."),
    Attribute("ports.epmd", Kind.PORT, 4369, "Erlang's port mapper, of the message bus."),
    Attribute("ports.ovn_northbound", Kind.PORT, 6641, "OVN's northbound database, for other machines."),
    Attribute("ports.ovn_southbound", Kind.PORT, 6642, "OVN's southbound database, for other machines."),
)

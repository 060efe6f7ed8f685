# SPDX-License-Identifier: Apache-2.0
"""The [docker] options of nova.conf."""

from __future__ import annotations

from oslo_config import cfg

from dockstack.oci.streams import ImageLimits

GROUP = cfg.OptGroup("docker", title="Docker driver", help="Nova servers as containers of a Docker engine.")

_ENGINE = [
    cfg.StrOpt(
        "host_url",
        default="unix:///run/docker.sock",
        help="Where the engine listens. Change it when the engine has another socket. It must run on this very host, "
        "because networks, volumes and limits are this host's.",
    ),
    cfg.IntOpt(
        "timeout",
        default=60,
        min=1,
        help="Seconds to wait for an answer of the engine, or for the next bytes of one. Raise it on a host whose disk "
        "is slow enough to make starts fail with 'did not answer'.",
    ),
    cfg.StrOpt(
        "runtime",
        default="dockstack",
        help="The OCI runtime that starts servers, as the engine's daemon.json names it. Change it only if that name "
        "is taken there. Without this runtime a server cannot have its network before its first process.",
    ),
    cfg.StrOpt(
        "patch_directory",
        default="/var/lib/dockstack/patches",
        help="Where the driver leaves a note for the runtime about each container. Must be the directory that "
        "dockstack-runtime-install was given, belong to root or to this service's user, and be writable by none else.",
    ),
    cfg.StrOpt(
        "lxcfs_directory",
        default="/var/lib/dockstack/lxcfs",
        help="Where LXCFS is mounted, which shows each server its own processors, memory, load and uptime. It must be "
        "below a directory that dockstack-runtime-install was given. Set it to nothing on a host that is to do "
        "without: its servers see the host's.",
    ),
    cfg.StrOpt(
        "state_directory",
        default="/var/lib/dockstack",
        help="Where the driver keeps temporary files. Change it when that file system is too small for an image.",
    ),
]

_CONTAINERS = [
    cfg.StrOpt(
        "log_max_size",
        default="5m",
        regex=r"^[1-9][0-9]*[kmg]$",
        help="How large a server's console log may grow before it is rotated. Raise it if users miss older output; "
        "each server may use log_max_size times log_max_files.",
    ),
    cfg.IntOpt(
        "log_max_files",
        default=2,
        min=1,
        max=100,
        help="How many rotated pieces of a console log to keep. With 1, a rotation empties the console.",
    ),
    cfg.StrOpt(
        "vcpu_placement",
        default="spread",
        choices=[
            ("spread", "a server runs on as many processors as it has vCPUs, the least taken ones, and counts so many"),
            ("float", "a server runs on all shared processors, up to its quota, and programs may count them all"),
        ],
        help="Which of the shared processors a server without dedicated ones runs on. Change it where few servers at a "
        "time are busy, and what they count does not matter: the kernel may then use any idle processor for them.",
    ),
    cfg.IntOpt(
        "pids_limit",
        default=4096,
        min=16,
        help="How many processes and threads a server may have if its flavor does not say. Lower it on hosts with very "
        "many servers, raise it for Java-like workloads.",
    ),
    cfg.IntOpt(
        "nofile_limit",
        default=0,
        min=0,
        help="How many files one process of a server may have open if its flavor does not say; 0 for the engine's own "
        "default. Set it where that default is too generous. An engine that runs in a container of its own cannot go "
        "above its own limit: servers would not start.",
    ),
    cfg.IntOpt(
        "stop_timeout",
        default=30,
        min=0,
        help="Seconds a server gets to shut down before it is killed, if neither Nova nor the image says. Raise it for "
        "databases.",
    ),
    cfg.IntOpt(
        "healthcheck_interval",
        default=10,
        min=1,
        help="Seconds between two probes of a server's health check at least, whoever asks for it. The engine starts "
        "each probe from outside of the server, with work that counts to no flavor's processors: about 50 ms of one. "
        "Lower it where tenants are trusted.",
    ),
]

_TELEMETRY = [
    cfg.StrOpt(
        "metrics_file",
        default="",
        help="Where to count what Nova asked for and how long new servers take, in Prometheus' text format; empty to "
        "keep no such file. Set it, in a directory that this service's user may write to, for dockstack-exporter or "
        "for the textfile collector of node_exporter.",
    ),
]

_PLACEMENT = [
    cfg.BoolOpt(
        "skip_allocation_lookup",
        default=False,
        help="Keep Nova from reading the allocation of every server of the host from Placement, one by one, whenever "
        "one comes or goes: this driver never needs them, and with 100 servers that takes a second. It replaces a "
        "method of Nova's own report client in this process (docs/adr/0013). Set it on hosts with many servers; it "
        "does nothing where [pci] report_in_placement is set.",
    ),
]

_SAFETY = [
    cfg.ListOpt(
        "allowed_runtimes",
        default=[],
        help="Further runtimes of the engine that flavors may choose with docker:runtime. Set it to offer another "
        "one: each must be dockstack's wrapper around it (dockstack-runtime-install --directory ... --runc ...), "
        "because without that a server has no network.",
    ),
    cfg.StrOpt(
        "volume_mounts",
        default="kernel",
        choices=[
            (
                "kernel",
                "the kernel mounts ext4 for it, checked by e2fsck, where the host has a mount broker",
            ),
            ("none", "not at all"),
        ],
        help="How a server may mount its volumes itself, without a right to mount anything. Set it to none where the "
        "host's kernel is not to read file systems that tenants wrote; see docs/volumes.md. A flavor may say none with "
        "docker:volume_mounts. A server takes a change over at its next start.",
    ),
]

_IDENTITY = [
    cfg.StrOpt(
        "inject_key",
        default="auto",
        choices=[
            ("auto", "for images that have neither cloud-init nor an init of dockstack's to fetch it"),
            ("always", "for every image"),
            ("never", "for none"),
        ],
        help="Whether the driver itself writes a server's public key into root's authorized_keys, and into those of "
        "the image's user and of its os_admin_user, before the first start. Change it if your images have an agent of "
        "their own for this. An image's or a server's docker_inject_key wins.",
    ),
    cfg.StrOpt(
        "inject_password",
        default="auto",
        choices=[
            ("auto", "for images that name a user in os_admin_user"),
            ("always", "for every image, root's if it names none; costs a tenth of a second at each creation"),
            ("never", "for none"),
        ],
        help="Whether a new server's administrator gets the password that Nova made or was given (adminPass). Change "
        "it if your users rely on it. An image's or a server's docker_inject_password wins.",
    ),
]

_IMAGES = [
    cfg.IntOpt(
        "image_max_unpacked_mb",
        default=20480,
        min=1,
        help="The largest image, unpacked, that this host accepts, in MB. It bounds what a compressed bomb can write. "
        "Raise it for legitimately larger images.",
    ),
    cfg.IntOpt(
        "image_max_entries",
        default=1_000_000,
        min=1,
        help="The largest number of files in an image. Raise it if yours have more and the file system has the inodes.",
    ),
    cfg.IntOpt(
        "image_timeout",
        default=1800,
        min=1,
        help="Seconds that fetching, checking and loading one image may take in all. Raise it for large images on slow "
        "networks.",
    ),
    cfg.IntOpt(
        "image_parallel",
        default=2,
        min=1,
        help="How many different images are fetched side by side. Each takes up to 256 MiB of memory and a processor "
        "while it is checked. Raise it on large hosts, where one tenant's slow images would keep others waiting.",
    ),
]

_REGISTRIES = [
    cfg.StrOpt(
        "cloud_registry",
        default="",
        help="The cloud's own registry, as HOST[:PORT], or http://HOST[:PORT] without TLS. Images that point there "
        "(dockerref) are pulled as the user who asks for a server. Set it where the cloud has one.",
    ),
    cfg.ListOpt(
        "allowed_registries",
        default=[],
        help="Further registries that images may point to, each as HOST[:PORT] (docker.io for Docker Hub), or "
        "http://HOST[:PORT] without TLS. What is listed may have a private address; nothing else is ever reached at "
        "one. Every user of the cloud reads there with this host's credentials. Set it to offer their images.",
    ),
    cfg.StrOpt(
        "registry_credentials",
        default="",
        help="A file with this host's credentials for allowed_registries, as `docker login` writes it. It must belong "
        "to root or to this service's user and be readable by nobody else. Set it for registries that want a login.",
    ),
    cfg.StrOpt(
        "registry_ca_file",
        default="",
        help="A file of certificates whose signatures count for registries, beside the system's. Set it where a "
        "registry has a certificate of an authority of your own.",
    ),
    cfg.IntOpt(
        "registry_cache_mb",
        default=2048,
        min=0,
        help="How much of what came from registries is kept, compressed, below state_directory, in MB; layers that "
        "images share are fetched once. Set it to 0 where that disk is short, raise it for large images.",
    ),
    cfg.ListOpt(
        "signature_keys",
        default=[],
        help="Public keys (ECDSA P-256, PEM) of which one must have signed an image that is pulled from a registry, "
        "as cosign does it: each the path of a file, for all registries, or REGISTRY[/REPOSITORY]=PATH. Set it to have "
        "servers boot from signed images only; what is uploaded to Glance itself has Nova's signatures.",
    ),
]

_MIGRATION = [
    cfg.StrOpt(
        "migration_transport",
        default="none",
        choices=[
            ("none", "servers stay on their host; a resize or a cold migration to another one is refused"),
            ("ssh", "by SSH, as this service's user, whose key the other hosts' same user accepts"),
        ],
        help="How a server's files travel to another host. Set it to ssh once the hosts' compute users can log in to "
        "each other by key; see docs/migration.md.",
    ),
    cfg.StrOpt(
        "migration_ssh_command",
        default="ssh",
        help="The SSH client with its arguments, such as a port, a key or a configuration of its own. It must never "
        "ask for anything. Change it where the user's own SSH configuration does not say these things.",
    ),
    cfg.StrOpt(
        "migration_receiver",
        default="/opt/dockstack/openstack/bin/dockstack-migration-receiver",
        help="Where the receiver is on the other hosts. Change it when the driver is installed elsewhere there.",
    ),
    cfg.IntOpt(
        "migration_tries",
        default=5,
        min=1,
        help="How often to take up a transfer that broke off before the server is started again where it was. Raise it "
        "for unreliable networks.",
    ),
]

_NETWORK = [
    cfg.StrOpt(
        "metadata_route",
        default="link",
        choices=[
            ("link", "directly on the server's first network: OVN, whose metadata port answers there"),
            ("gateway", "ML2/OVS: routers answer; in a network without a gateway, its DHCP server"),
            ("dhcp", "ML2/OVS with force_metadata: the network's DHCP server answers everywhere"),
            ("none", "no route; the subnet's host routes name one, or there is no metadata service"),
        ],
        help="How a server reaches 169.254.169.254 if its subnet's host routes do not say. Change it when the cloud's "
        "network is not OVN.",
    ),
    cfg.ListOpt(
        "dns_servers",
        default=[],
        item_type=cfg.types.IPAddress(),
        help="The name servers of servers whose subnets name none. Set it to what the DHCP of the cloud's network "
        "offers there, which with OVN is neutron.conf's [ovn] dns_servers.",
    ),
    cfg.BoolOpt(
        "checksum_offload",
        default=True,
        help="Let servers leave their packets' checksums to the network device. Set it to false on hosts whose "
        "switch drops such packets at a tunnel to another host, as Open vSwitch 3.1's userspace datapath does; it "
        "costs most of the throughput. A server takes the change over at its next start.",
    ),
]

_CONSOLES = [
    cfg.IntOpt(
        "console_linger",
        default=60,
        min=0,
        help="Seconds that a login on a server's serial console outlives its last viewer. Lower it where tokens of "
        "one server go to several people: the next of them finds the session as it was left.",
    ),
]

OPTIONS = [
    *_ENGINE,
    *_CONTAINERS,
    *_TELEMETRY,
    *_PLACEMENT,
    *_SAFETY,
    *_IDENTITY,
    *_IMAGES,
    *_REGISTRIES,
    *_MIGRATION,
    *_NETWORK,
    *_CONSOLES,
]


def register(conf: cfg.ConfigOpts) -> None:
    """Make ``conf.docker`` known; a second call changes nothing."""
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """Answer oslo.config's sample generator (entry point oslo.config.opts)."""
    return [(GROUP, OPTIONS)]


def image_limits(options: cfg.GroupAttr) -> ImageLimits:
    """Return what no image may exceed on this host, whatever its flavor's disk."""
    unpacked = options.image_max_unpacked_mb << 20
    return ImageLimits(
        max_unpacked_bytes=unpacked, max_spooled_bytes=2 * unpacked, max_entries=options.image_max_entries
    )

# SPDX-License-Identifier: Apache-2.0
"""Where things live on a node; the names are part of the contract with operators."""

from __future__ import annotations

ETC = "/etc/dockstack"
ENVIRONMENT_FILE = f"{ETC}/dockstack.yaml"
SAVED_OPTIONS = f"{ETC}/saved-options.yaml"  # those of `up` that a later run need not repeat
SECRETS_FILE = f"{ETC}/secrets.yaml"
CLOUD_DOCUMENT = f"{ETC}/cloud.yaml"  # what compute nodes must know; its secrets are in cloud-secrets.yaml beside it
TLS = f"{ETC}/tls"
AUTHORITY = f"{TLS}/authority.pem"  # whom the cloud's clients trust
OVN_AUTHORITY = f"{TLS}/ovn-authority.pem"  # whom OVN's databases and their clients trust
OWN_AUTHORITY = f"{TLS}/own-authority.pem"  # the cloud's own authority, with its key
API_CERTIFICATE = f"{TLS}/apis.pem"  # with its key, as the two below
OVN_CERTIFICATE = f"{TLS}/ovn.pem"
NODE_CERTIFICATES = f"{TLS}/nodes"
COMMISSION = f"{ETC}/commission.json"  # what a compute node of another cloud was told that it is
OPENRC = f"{ETC}/openrc"
CLOUDS_YAML = "/etc/openstack/clouds.yaml"

OPT = "/opt/dockstack"
OPENSTACK_VENV = f"{OPT}/openstack"
CONSOLE_PAGE = f"{OPT}/console"
VNC_PAGE = f"{OPT}/vnc"
CLI_VENV = f"{OPT}/cli"
RUNTIME_DIRECTORY = f"{OPT}/runtime"
LOCK_MARKER = f"{OPENSTACK_VENV}/.dockstack-lock"  # the installed lock's hash: what the services' code is
DRIVER_MARKER = f"{OPENSTACK_VENV}/.dockstack-driver"  # the installed wheel's hash: what nova-compute loads besides

VAR = "/var/lib/dockstack"
STATE_DIRECTORY = f"{VAR}/deploy"
PATCH_DIRECTORY = f"{VAR}/patches"
LXCFS_DIRECTORY = f"{VAR}/lxcfs"  # below the patches' parent, whence mounts may come
BAKED = f"{VAR}/baked"  # packages and the like of an archive, while a machine comes up from it
BAKED_NOTE = f"{STATE_DIRECTORY}/up-from"  # which archive that is
RUN = "/run/dockstack"
LOG = "/var/log/dockstack"

# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ: a small broker of our own on the loopback interface."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings

NODE_NAME = "dockstack@localhost"
CONFIGURATION_DIRECTORY = "/etc/dockstack/rabbitmq"


def rabbitmq_conf(settings: Settings) -> str:
    """Return rabbitmq.conf."""
    return (
        "# Written by dockstack: changes are lost at the next run.\n"
        f"listeners.tcp.1 = {settings.bind_address}:{settings.ports.rabbitmq}\n"
        f"load_definitions = {CONFIGURATION_DIRECTORY}/definitions.json\n"
        "log.console = true\n"
        "log.console.level = warning\n"
        "log.file = false\n"
        "disk_free_limit.absolute = 50MB\n"
        "vm_memory_high_watermark.absolute = 512MB\n"
        "collect_statistics_interval = 60000\n"
    )


def definitions_json(settings: Settings) -> str:
    """Return the user and virtual host, which the node reads at each start."""
    user = {
        "name": "openstack",
        "password_hash": password_hash(settings.secret("rabbitmq_password")),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }
    permission = {"user": "openstack", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {"users": [user], "vhosts": [{"name": "/"}], "permissions": [permission]}
    return json.dumps(definitions, indent=1) + "\n"


def password_hash(password: str) -> str:
    """Return RabbitMQ's salted hash (rabbitmq.com/passwords.html); the salt follows from the password.

    A random salt would change the file at every run. A fixed one is as safe here, because the password is long and
    random.
    """
    salt = hashlib.sha256(b"dockstack " + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of rabbitmq-server and rabbitmqctl."""
    state = f"{settings.state_directory}/rabbitmq"
    return {
        "HOME": state,
        "RABBITMQ_NODENAME": NODE_NAME,
        "RABBITMQ_CONFIG_FILE": f"{CONFIGURATION_DIRECTORY}/rabbitmq.conf",
        "RABBITMQ_CONF_ENV_FILE": f"{CONFIGURATION_DIRECTORY}/rabbitmq-env.conf",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{CONFIGURATION_DIRECTORY}/enabled_plugins",
        "RABBITMQ_MNESIA_BASE": f"{state}/mnesia",
        "RABBITMQ_LOG_BASE": "/var/log/rabbitmq",
        "RABBITMQ_DIST_PORT": str(settings.ports.rabbitmq_distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
        ),
        "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(settings.ports.epmd),
    }

# SPDX-License-Identifier: Apache-2.0
"""MariaDB: a small instance of our own, reached through its socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.settings import DATABASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings


def data_directory(settings: Settings) -> str:
    """Return where the instance keeps its data; a user's own databases in /var/lib/mysql are left alone."""
    return f"{settings.state_directory}/mariadb"


def mariadb_cnf(settings: Settings) -> Ini:
    """Return the instance's only option file."""
    return {
        "mariadbd": {
            "user": "mysql",
            "datadir": data_directory(settings),
            "socket": settings.database_socket,
            "pid_file": f"{settings.run_directory}/mariadb/mariadb.pid",
            "skip_networking": "1",
            "skip_name_resolve": "1",
            "character_set_server": "utf8mb4",
            "collation_server": "utf8mb4_general_ci",
            "performance_schema": "0",
            "max_connections": str(settings.database_connections),
            "thread_cache_size": "16",
            "table_open_cache": "1000",
            "table_definition_cache": "600",
            "innodb_buffer_pool_size": f"{settings.buffer_pool_mb}M",
            "innodb_log_file_size": "48M",
            "innodb_log_buffer_size": "4M",
            "innodb_flush_method": "O_DIRECT",
            "key_buffer_size": "1M",
            "aria_pagecache_buffer_size": "4M",
            "query_cache_type": "0",
            "query_cache_size": "0",
            "skip_log_bin": "1",
        }
    }


def bootstrap_sql(settings: Settings) -> str:
    """Return the statements that make databases and accounts; they can run again at any time."""
    return "".join(account_sql(settings, user, databases) for user, databases in DATABASES.items())


def account_sql(settings: Settings, user: str, databases: Sequence[str]) -> str:
    """Return the statements that make one account and its databases."""
    password = settings.secret(f"{user}_database_password")
    lines = [
        f"CREATE USER IF NOT EXISTS '{user}'@'localhost' IDENTIFIED BY '{password}';",
        f"ALTER USER '{user}'@'localhost' IDENTIFIED BY '{password}';",
    ]
    for database in databases:
        lines.append(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4;")
        lines.append(f"GRANT ALL PRIVILEGES ON `{database}`.* TO '{user}'@'localhost';")
    return "\n".join(lines) + "\n"

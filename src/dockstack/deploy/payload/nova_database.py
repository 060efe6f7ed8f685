# SPDX-License-Identifier: Apache-2.0
"""Bring Nova's three databases to the installed version; runs on the controller as nova, in the services' environment.

nova-manage spends most of its time on imports. This process imports once and forks for each of its commands.
"""

from __future__ import annotations

import os
import sys

URL = "{scheme}://{username}:{password}@{hostname}"
# Templates, filled in from the configuration file at each use: no password on a command line or in a table.
TRANSPORT_URL = URL + ":{port}/"
CELL_DATABASE_URL = URL + "/{path}?{query}"
CELL0_DATABASE_URL = URL + "/nova_cell0?{query}"
CELL = "cell1"
ABSENT = 3

SIDE_BY_SIDE: tuple[tuple[str, ...], ...] = (("api_db", "sync"), ("db", "sync", "--local_cell"))
IN_ORDER: tuple[tuple[str, ...], ...] = (
    ("cell_v2", "map_cell0", "--database_connection", CELL0_DATABASE_URL),
    (
        *("cell_v2", "create_cell", "--name", CELL, "--transport-url", TRANSPORT_URL),
        *("--database_connection", CELL_DATABASE_URL),
    ),
    ("db", "sync"),
)


def start(options: list[str], command: tuple[str, ...]) -> int:
    """Run one nova-manage command in a child and return its pid."""
    from nova.cmd import manage  # noqa: PLC0415 - imported once, before the first fork

    pid = os.fork()
    if pid == 0:
        sys.argv = ["nova-manage", *options, *command]
        os._exit(manage.main() or 0)
    return pid


def finish(pid: int, command: tuple[str, ...]) -> None:
    """Wait for a child."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise SystemExit(f"nova-manage {command[0]} {command[1]} failed with status {status}.")


def has_cell(options: list[str]) -> bool:
    """Whether the cell is mapped already.

    nova-manage compares the templates that it is given with those of the table as they read when filled in. It finds
    no cell equal, and would map the same one again at every upgrade.
    """
    pid = os.fork()
    if pid == 0:
        from nova import config, context, objects  # noqa: PLC0415 - as above

        config.parse_args(["nova-manage", *options])
        objects.register_all()
        cells = objects.CellMappingList.get_all(context.get_admin_context())
        os._exit(0 if any(cell.name == CELL for cell in cells) else ABSENT)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in {0, ABSENT}:
        raise SystemExit(f"Nova's cells cannot be listed: status {status}.")
    return status == 0


def main() -> None:
    """Migrate; the two large schemas side by side."""
    os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "true")
    options = sys.argv[1:]
    for pid, command in [(start(options, command), command) for command in SIDE_BY_SIDE]:
        finish(pid, command)
    for command in IN_ORDER:
        if "create_cell" in command and has_cell(options):
            continue
        finish(start(options, command), command)


if __name__ == "__main__":
    main()

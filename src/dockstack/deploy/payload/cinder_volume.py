# SPDX-License-Identifier: Apache-2.0
"""cinder-volume without root, and with Cinder's scheduler and its backups beside it.

Cinder looks at images, and copies volumes, by ``sudo cinder-rootwrap`` (cinder/utils.py:get_root_helper; no option says
otherwise). The files of our backend are Cinder's own, and what strangers wrote into them is not for root to parse. So
what Cinder would do by sudo, it does as its own user.

cinder-volume is a parent that has a child for each backend, and starts it anew if it ends. The scheduler and the
backups are two more here: the three start in the time of one, and have most of their memory together.
"""

from __future__ import annotations

import sys

from cinder import monkey_patch

monkey_patch.patch()  # as cinder-volume itself does, before anything else of Cinder is loaded

from cinder import service, utils  # noqa: E402
from cinder.cmd import backup, volume  # noqa: E402
from cinder.db import api as session  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_log import log  # noqa: E402

BINARY = "cinder-volume"


def as_itself() -> str:
    """Return the command that Cinder puts before another one which it wants to run as root."""
    return "env"


def launch() -> None:
    """Start a child for each backend, the scheduler and the backups, and see to them until the end.

    If the backups cannot be made ready, all ends, as cinder-backup would by itself; the log says why.
    """
    launcher = service.process_launcher()
    for backend in cfg.CONF.enabled_backends:
        volume._launch_service(launcher, backend)  # noqa: SLF001 - no name of Cinder's says how it starts a child
    volume._ensure_service_started()  # noqa: SLF001 - as above
    scheduler = service.Service.create(binary="cinder-scheduler")
    session.dispose_engine()  # as Cinder does before each of its children, who must not share connections
    launcher.launch_service(scheduler)
    backup.LOG = log.getLogger(backup.__name__)  # which only its own main() would make, and a failure is said with
    operations = utils.semaphore_factory(cfg.CONF.backup_max_operations, 1)
    backup._launch_backup_process(launcher, 0, operations)  # noqa: SLF001 - as above
    launcher.wait()


def main() -> None:
    """Be cinder-volume, with its own arguments, and under that name in logs and reports."""
    sys.argv[0] = BINARY
    utils.get_root_helper = as_itself
    volume._launch_services = launch  # noqa: SLF001 - as above
    volume.main()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The only code that runs as root, a file for each thing that it touches.

Each entry point is idempotent and takes plain values, because oslo.privsep sends them to a daemon as msgpack. That
daemon has many threads, so nothing here forks, and whatever enters a namespace does it in a thread of its own.
"""

from __future__ import annotations

from oslo_config import cfg
from oslo_privsep import capabilities, priv_context

context = priv_context.PrivContext(
    "dockstack",
    cfg_section="dockstack_privileged",
    pypath=__name__ + ".context",
    capabilities=[
        capabilities.CAP_SYS_ADMIN,
        capabilities.CAP_NET_ADMIN,
        capabilities.CAP_KILL,  # ending what an engine has forgotten, whose user may be another
        capabilities.CAP_SYS_CHROOT,  # entering a server's mount namespace
        capabilities.CAP_SYS_PTRACE,  # looking at a server's processes, whose capabilities are others
    ],
)

# A daemon of its own, started by the first migration: copying takes minutes, and networks must not wait for it.
copying = priv_context.PrivContext(
    "dockstack",
    cfg_section="dockstack_copying",
    pypath=__name__ + ".copying",
    capabilities=[
        capabilities.CAP_SYS_ADMIN,  # extended attributes of the overlay file system
        capabilities.CAP_DAC_OVERRIDE,  # files of every user in a server
        capabilities.CAP_DAC_READ_SEARCH,
        capabilities.CAP_CHOWN,
        capabilities.CAP_FOWNER,
        capabilities.CAP_FSETID,
        capabilities.CAP_MKNOD,  # deleted files are device nodes 0/0
        capabilities.CAP_SETFCAP,
        capabilities.CAP_SYS_CHROOT,
    ],
)

# A daemon of its own, started by the first volume: it may make device nodes and read whatever file a volume is.
attaching = priv_context.PrivContext(
    "dockstack",
    cfg_section="dockstack_attaching",
    pypath=__name__ + ".attaching",
    capabilities=[
        capabilities.CAP_SYS_ADMIN,
        capabilities.CAP_DAC_OVERRIDE,  # a volume's file belongs to Cinder's user
        capabilities.CAP_MKNOD,
        capabilities.CAP_FOWNER,
        capabilities.CAP_CHOWN,
        capabilities.CAP_SYS_CHROOT,  # entering a server's mount namespace
        capabilities.CAP_SYS_PTRACE,  # seeing which devices a server's processes have open
    ],
)

# Its calls wait for storage, that of one volume perhaps for ever, and calls about others go on beside them. By default
# there are as many threads as processors.
cfg.CONF.set_default("thread_pool_size", 64, group="dockstack_attaching")

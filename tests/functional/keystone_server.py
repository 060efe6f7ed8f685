# SPDX-License-Identifier: Apache-2.0
"""A Keystone with an empty cloud, in a process of its own: ``keystone_server.py DIRECTORY PORT``; the password: stdin.

Its database is in memory, made as the models say and not by migrations, which take longer than all else here.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

from keystone.cmd import bootstrap
from keystone.common import sql
from keystone.server.flask import core


class Silent(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, *_args: object) -> None:
        """Do nothing."""


def configuration(directory: Path) -> str:
    """Write keys and keystone.conf."""
    for name in ("fernet-keys", "credential-keys"):
        (directory / name).mkdir(mode=0o700)
        for key in ("0", "1"):
            (directory / name / key).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
    conf = directory / "keystone.conf"
    sections = (
        "[database]\nconnection = sqlite://",
        f"[fernet_tokens]\nkey_repository = {directory}/fernet-keys",
        f"[credential]\nkey_repository = {directory}/credential-keys",
        "[identity]\npassword_hash_rounds = 4",
        "[cache]\nenabled = true\nbackend = oslo_cache.dict",
    )
    conf.write_text("\n".join(sections))
    return str(conf)


def main() -> None:
    """Serve until the process is ended."""
    directory, port = Path(sys.argv[1]), int(sys.argv[2])
    del sys.argv[1:]  # Keystone would read them, too
    password = sys.stdin.readline().strip()
    application = core.initialize_application("public", config_files=[configuration(directory)])
    with sql.session_for_write() as session:
        sql.ModelBase.metadata.create_all(bind=session.get_bind())
    bootstrap.backends.load_backends = dict  # the application has loaded them
    cloud = bootstrap.Bootstrapper()
    cloud.admin_username = cloud.project_name = cloud.admin_role_name = "admin"
    cloud.admin_password, cloud.region_id, cloud.service_name = password, "RegionOne", "keystone"
    cloud.public_url = cloud.internal_url = cloud.admin_url = f"http://127.0.0.1:{port}/v3"
    cloud.bootstrap()
    make_server("127.0.0.1", port, application, handler_class=Silent).serve_forever()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A system image out of real packages: built, built again from what was kept, loaded by an engine, and looked at.

That it boots, `dockstack verify --only system` proves in a cloud.
"""

from __future__ import annotations

import subprocess

import pytest
from images import shared
from private_engine import PrivateEngine, remove_leftovers

from dockstack.deploy.base_image.packages import architecture
from dockstack.deploy.system_image import builder
from dockstack.deploy.system_image.packages import default_mirrors
from dockstack.deploy.system_image.recipe import SUITES, Recipe

LOOK = """
set -eu
test ! -s /etc/machine-id
test -z "$(ls /etc/ssh/*_key 2>/dev/null)"
test -z "$(find /var/log /var/lib/apt/lists /var/cache/apt -type f)"
test ! -e /usr/sbin/policy-rc.d
test ! -e /usr/lib/dockstack
dpkg --audit
test -z "$(dpkg-query --show --showformat '${db:Status-Abbrev}\\n' | grep -v '^ii' || true)"
systemctl is-enabled ssh.service console-getty.service 2>&1 | sort -u
sshd -t 2>&1 | grep -v 'no hostkeys' || true
sudo -V >/dev/null
less --version | head -c 4
"""


@pytest.fixture
def engine():
    remove_leftovers()
    engine = PrivateEngine("system-image")
    engine.install()
    try:
        engine.start()
        yield engine
    finally:
        engine.clean()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", SUITES)
def test_a_system_image_is_whole_and_always_the_same(engine, suite, tmp_path):
    recipe = Recipe(suite, architecture(), ("less",))
    titles = []

    def build():
        return builder.build(recipe, default_mirrors(), lambda *what: titles.append(what[0]), shared("system-images"))

    first = build()
    titles.clear()
    assert build().configuration.digest == first.configuration.digest
    assert set(titles) == {"Fetching the lists of packages"}, "the second build fetched and installed packages"
    first.write(tmp_path / "image.tar")
    for layer in shared("system-images").glob("*.tar"):
        layer.unlink()
    again = build()
    again.write(tmp_path / "again.tar")
    assert again.configuration.digest == first.configuration.digest, f"compare the layers in {tmp_path}"
    docker = ["docker", "--host", engine.url]
    subprocess.run([*docker, "load", "--input", tmp_path / "image.tar"], check=True, stdout=subprocess.DEVNULL)
    identifier = str(first.configuration.digest)
    run = [*docker, "run", "--rm", "--network", "none", identifier, "sh", "-c", LOOK]
    done = subprocess.run(run, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["enabled", "less"]

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import getpass
import grp
import hashlib
import os
import subprocess
import sys
import time

import pytest

from dockstack.deploy.node import connected_node, processes
from dockstack.deploy.node.output import StepFailedError, StepHungError, shell_line
from dockstack.deploy.node.shell import LocalShell

pytestmark = pytest.mark.unit


@pytest.fixture
def here(this_machine):
    return this_machine()


@pytest.fixture
def me():
    return {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def test_a_file_is_written_once(here, me, tmp_path):
    path = str(tmp_path / "a file")
    assert here.file(path, "content\n", mode=0o640, **me)
    assert not here.file(path, "content\n", mode=0o640, **me)
    assert here.read(path) == "content"
    assert (tmp_path / "a file").stat().st_mode & 0o777 == 0o640
    assert here.manifest.ours("file", path)
    assert here.changes == 1


def test_mode_and_content_are_corrected(here, me, tmp_path):
    path = tmp_path / "file"
    here.file(str(path), "one", mode=0o600, **me)
    path.chmod(0o644)
    assert here.file(str(path), "one", mode=0o600, **me)
    assert path.stat().st_mode & 0o777 == 0o600
    assert here.file(str(path), "two", mode=0o600, **me)
    assert [entry.name for entry in tmp_path.iterdir() if "dockstack-new" in entry.name] == []


def test_a_file_is_not_written_through_a_link(here, me, tmp_path):
    # whoever owns the directory could have root write to a file of its choice
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("old")
    (tmp_path / "file.dockstack-new").symlink_to(victim)
    assert here.file(str(path), "new", mode=0o600, **me)
    assert (victim.read_text(), path.read_text(), path.is_symlink()) == ("old", "new", False)


def test_a_secret_is_never_readable_by_others_while_it_is_written(machine):
    one = machine()
    one.file("/etc/openstack/clouds.yaml", "hush", mode=0o600)
    temporary = "/etc/openstack/clouds.yaml.dockstack-new"
    assert f"rm -f {temporary} && umask 077 && set -C && : > {temporary}" in one.commands


@pytest.mark.parametrize("name", ["plain", "with space", "it's"])
def test_a_directory_is_made_and_corrected(here, me, tmp_path, name):
    path = tmp_path / "parent" / name
    assert here.directory(str(path), mode=0o750, **me)
    assert path.stat().st_mode & 0o777 == 0o750
    assert not here.directory(str(path), mode=0o750, **me)
    path.chmod(0o777)
    assert here.directory(str(path), mode=0o750, **me)
    assert path.stat().st_mode & 0o777 == 0o750


def test_a_directory_below_a_linked_parent_is_fine(here, me, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "parent").symlink_to(tmp_path / "disk")
    assert here.directory(str(tmp_path / "parent" / "state"), mode=0o700, **me)
    assert (tmp_path / "disk" / "state").stat().st_mode & 0o777 == 0o700


def test_a_link_in_a_directorys_place_is_not_followed(here, me, tmp_path):
    # a service that owns the parent could have itself be given any directory
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    (tmp_path / "state").symlink_to(victim)
    with pytest.raises(StepFailedError) as caught:
        here.directory(str(tmp_path / "state"), mode=0o700, **me)
    assert "is a symbolic link" in caught.value.details
    assert victim.stat().st_mode & 0o777 == 0o755


def test_a_command_runs_unless_it_need_not(here, tmp_path):
    mark = tmp_path / "mark"
    assert here.command(["touch", str(mark)], unless=["test", "-e", str(mark)])
    assert not here.command(["touch", str(mark)], unless=["test", "-e", str(mark)])


def test_a_failing_command_tells_its_last_lines(here):
    with pytest.raises(StepFailedError) as failed:
        here.command("echo out; echo err >&2; exit 3")
    assert failed.value.details.splitlines() == ["out", "err"]
    assert failed.value.resolution


def test_a_secret_travels_on_stdin(here):
    assert here.run("cat", stdin="secret").stdout == "secret"


def test_no_secret_is_shown_when_a_command_fails(here):
    secret = here.secrets.get("database")
    with pytest.raises(StepFailedError) as failed:
        here.command(f"echo mysql://nova:{secret}@localhost; exit 1")
    assert secret not in failed.value.brief + failed.value.details


def test_a_failing_file_does_not_show_its_content(here, tmp_path, me):
    with pytest.raises(StepFailedError) as failed:
        here.file(str(tmp_path / "no such directory" / "file"), "hush", **me)
    assert "hush" not in failed.value.brief + failed.value.details


def test_once_counts_success_only(here):
    def fails():
        raise StepFailedError("no")

    with pytest.raises(StepFailedError):
        here.once("migration", "v1", fails)
    ran = []
    assert here.once("migration", "v1", lambda: ran.append(1))
    assert not here.once("migration", "v1", lambda: ran.append(1))
    assert here.once("migration", "v2", lambda: ran.append(1))
    assert here.once("migration", "v2", lambda: ran.append(1), unless="false")  # the database is gone: again
    assert ran == [1, 1, 1]


def test_digests_and_versions_take_one_command_each(here, tmp_path):
    (tmp_path / "a").write_text("x")
    paths = [str(tmp_path / "a"), str(tmp_path / "none")]
    assert here.digests(paths) == {paths[0]: hashlib.sha256(b"x").hexdigest(), paths[1]: ""}
    assert here.digests([]) == {}
    assert here.versions(["no-such-package"]) == {"no-such-package": ""}


def test_a_line_for_another_user_in_another_place():
    line = shell_line(["run", "a b"], user="nova", environment={"A": "1 2"}, directory="/srv")
    assert line == "runuser -u nova -- env 'A=1 2' sh -c 'cd /srv && run '\"'\"'a b'\"'\"''"


def test_packages_that_are_there_are_not_installed_again(machine):
    one = machine({"dpkg-query": "memcached installed 1.6"})
    assert not one.packages("memcached")
    assert not any("apt-get" in command for command in one.commands)


def test_service_starts_are_denied_while_packages_are_installed_and_allowed_after(machine):
    one = machine({"dpkg-query": {"success": False}, "cat /usr/sbin/policy-rc.d": {"success": False}})
    one.packages("memcached")
    deny = next(i for i, line in enumerate(one.commands) if "policy-rc.d.dockstack-new /usr/sbin" in line)
    install = next(i for i, line in enumerate(one.commands) if "install --no-install-recommends" in line)
    restore = next(i for i, line in enumerate(one.commands) if "grep -qsF" in line)
    assert deny < install < restore
    assert one.manifest.ours("package", "memcached")


def test_packages_that_a_killed_run_still_installs_are_waited_for(machine):
    one = machine({"dpkg-query": {"success": False}})
    one.packages("memcached")
    wait = next(
        i for i, line in enumerate(one.commands) if "fcntl.lockf" in line and "/var/lib/dpkg/lock-front" in line
    )
    assert wait < next(i for i, line in enumerate(one.commands) if "install --no-install-recommends" in line)


def test_locks_are_waited_for_and_held_while_a_command_runs(tmp_path):
    """As apt and dpkg take theirs: by fcntl, not by flock."""
    locks = [tmp_path / "lists", tmp_path / "frontend"]
    look = f"import fcntl; fcntl.lockf(open('{locks[1]}', 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    line = [sys.executable, "-c", connected_node.HOLD_LOCKS, *locks, "--"]
    with locks[0].open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen([*line, "sh", "-c", 'exit "$((6 + DPKG_FRONTEND_LOCKED))"'])
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.3)
    assert waiting.wait(60) == 7
    assert subprocess.run([*line, sys.executable, "-c", look], stderr=subprocess.DEVNULL, check=False).returncode == 1
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_a_policy_of_the_operator_is_kept(machine):
    one = machine({"dpkg-query": {"success": False}, "cat /usr/sbin/policy-rc.d": "#!/bin/sh\nexit 0"})
    one.packages("memcached")
    assert "cp -a /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.dockstack-saved" in one.commands


def test_a_policy_that_a_killed_run_left_is_taken_away_when_nothing_of_that_is_at_work(machine):
    """Its package manager, which outlives it, would start services without ours."""
    one = machine({"dpkg-query": "memcached installed 1.6"})
    one.packages("memcached")
    (line,) = [each for each in one.commands if "rm -f /usr/sbin/policy-rc.d" in each]
    assert line.index("grep -qsF") < line.index("fcntl.lockf") < line.index("rm -f")


HANG = "kill -STOP $$"  # as a client does whose server is stopped, it neither ends nor fails
TREE = "sleep 987 & wait"


@pytest.mark.parametrize("line", [HANG, TREE])
def test_a_command_that_hangs_is_named_and_ended(here, line):
    began = time.monotonic()
    for run in (here.run, here.command, LocalShell().run):
        with pytest.raises(StepHungError, match="did not end within 1 s and was ended") as caught:
            run(line, limit=1)
        assert line in caught.value.brief
        assert "kill -CONT" in caught.value.resolution
    assert time.monotonic() - began < 60
    assert not processes.with_arguments("987")


def test_a_question_whose_failure_counts_as_no_is_answered_no(here):
    assert not here.run(HANG, check=False, limit=1).ok
    assert not LocalShell().run(HANG, check=False, limit=1).ok


def test_a_failure_is_no_hang(here):
    with pytest.raises(StepFailedError, match="failed") as caught:
        here.run("exit 124")
    assert not isinstance(caught.value, StepHungError)


def test_what_is_mounted_below_is_somebody_elses(here, tmp_path):
    """Also a directory of the same file system, which rm takes for a plain one."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "a/b/mounted here").mkdir(parents=True)
    for path in (ours / "file", ours / "a/file", ours / "a/b/file"):
        path.write_text("ours")
    (ours / "other/deep").mkdir(parents=True)
    theirs.mkdir()
    (theirs / "precious").write_text("theirs")
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "--bind", theirs, ours / "a/b/mounted here"], check=True)
    try:
        here.absent(str(ours))
        assert (theirs / "precious").read_text() == "theirs"
        left = sorted(str(path.relative_to(ours)) for path in ours.rglob("*"))
        assert left == ["a", "a/b", "a/b/mounted here", "a/b/mounted here/precious"]
    finally:
        subprocess.run(["umount", ours / "a/b/mounted here"], check=True)
    here.absent(str(ours))
    assert not ours.exists()
    assert (theirs / "precious").exists()


def test_a_link_goes_and_its_target_stays(here, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    here.absent(str(tmp_path / "link"))
    assert (tmp_path / "target/file").exists()
    assert not (tmp_path / "link").is_symlink()

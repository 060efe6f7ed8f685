# SPDX-License-Identifier: Apache-2.0
"""What root refuses before it touches anything."""

from __future__ import annotations

import pytest

from dockstack.compute.containers import namespaces
from dockstack.compute.privileged import network as privileged

pytestmark = pytest.mark.unit

UUID = "22222222-2222-2222-2222-222222222222"


@pytest.fixture(autouse=True)
def in_process():
    privileged.context.set_client_mode(False)
    yield
    privileged.context.set_client_mode(True)


@pytest.mark.parametrize(
    "name", ["", "nova-", "nova-x", "../nova-" + UUID, f"nova-{UUID}/../x", f"nova-{UUID}\n", "default"]
)
def test_namespaces_of_others_are_refused(name) -> None:
    for call in (privileged.create_namespace, privileged.delete_namespace, privileged.interfaces):
        with pytest.raises(ValueError, match="is no name of a server's namespace"):
            call(name)


@pytest.mark.parametrize("device", ["", "eth0", "tap", "tap../../x", "lo", "br-int", "tap123456789012"])
def test_devices_of_others_are_refused(device) -> None:
    with pytest.raises(ValueError, match="is no name of a server's tap device"):
        privileged.delete_device(device)
    with pytest.raises(ValueError, match="is no name"):
        privileged.wire(f"nova-{UUID}", device, {})


@pytest.mark.parametrize("interface", ["", "lo", "all", "eth", "eth0\n", "../../../kernel", "eth0/../all", "eth1000"])
def test_interfaces_of_another_kind_are_refused(interface) -> None:
    # it would be a path below /proc/sys that root writes to
    with pytest.raises(ValueError, match="is no name of a server's interface"):
        privileged.wire(f"nova-{UUID}", "tap1", {"interface": interface})


def test_lists_servers_with_a_namespace(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(privileged, "NAMESPACES", tmp_path)
    assert namespaces.present() == ()
    (tmp_path / f"nova-{UUID}").touch()
    (tmp_path / "other").touch()
    assert namespaces.present() == (UUID,)
    assert namespaces.path(UUID) == f"{tmp_path}/nova-{UUID}"
    monkeypatch.setattr(privileged, "NAMESPACES", tmp_path / "nowhere")
    assert namespaces.present() == ()


def test_a_refusal_of_the_kernel_says_what_to_do(monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise PermissionError(1, f"making {name}: Operation not permitted")

    monkeypatch.setattr(privileged, "create_namespace", refuse)
    with pytest.raises(namespaces.NamespaceError, match=r"Operation not permitted.*privsep helper"):
        namespaces.prepare(UUID)

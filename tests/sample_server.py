# SPDX-License-Identifier: Apache-2.0
"""A server as Nova's side describes it to the flows, without ports; tests replace what they are about."""

from __future__ import annotations

from dockstack.compute.model import Image, Limits, Server

SERVER = Server(
    uuid="22222222-2222-2222-2222-222222222222",
    name="web",
    hostname="web",
    project_id="p",
    user_id="u",
    flavor="m1.tiny",
    image=Image(id="i", name="busybox"),
    limits=Limits(vcpus=2, memory_mb=64, disk_gb=1, nofile=512),
)

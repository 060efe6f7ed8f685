# SPDX-License-Identifier: Apache-2.0
"""The cloud's registry: what is pushed is an image that boots, and an image may point to what was pushed."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dockstack.oci.distribution.client import Account, Client
from dockstack.oci.remote.addresses import RegistryError
from dockstack.oci.sandbox import normalise
from dockstack.oci.streams import ImageLimits
from dockstack.verify.context import Context, Exercise
from dockstack.verify.exercises.access import LOGIN_NEEDS, expect
from dockstack.verify.interrupts import postponed
from dockstack.verify.model import Capability, CheckFailed
from dockstack.verify.resources import make_guest

if TYPE_CHECKING:
    from dockstack.oci.documents import Digest

NEEDS = LOGIN_NEEDS | {Capability.DOCKER, Capability.REGISTRY}
TAG = "1"
_CHUNK = 1 << 20
_CHECK_SECONDS = 600


@dataclass(frozen=True)
class Pushed:
    """The image of the run, pushed under a name of its own."""

    client: Client
    reference: str  # as a host is told it
    digest: Digest
    image: Any  # Glance's


def push_and_pull(ctx: Context) -> None:
    """What is pushed is an image that boots, what comes back is what went, and what Glance deletes is gone."""
    pushed = push(ctx)
    expect(pushed.image.properties.get("oci_digest"), str(pushed.digest), "the digest that Glance has of it")
    ctx.say("pulling it again")
    with Path(os.devnull).open("wb") as nowhere:
        expect(pushed.client.pull(TAG, machine(pushed.image), nowhere), pushed.digest, "the digest that was pulled")
    make_guest(ctx, image_id=pushed.image.id)
    ctx.connection.image.delete_image(pushed.image.id)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            pushed.client.pull(TAG, machine(pushed.image), nowhere)
    except RegistryError:
        return
    raise CheckFailed("An image that was deleted in Glance can still be pulled.", "Look at `dockstack logs registry`.")


def boot_from_reference(ctx: Context) -> None:
    """An image that points to the registry boots what is there."""
    pushed = push(ctx)
    line = f"{pushed.reference}\n".encode()
    with postponed():
        pointer = ctx.connection.image.create_image(
            ctx.name("reference"), data=line, container_format="docker", disk_format="raw", validate_checksum=False
        )
        ctx.stack.callback(ctx.connection.image.delete_image, pointer.id, ignore_missing=True)
    make_guest(ctx, image_id=pointer.id)


def push(ctx: Context) -> Pushed:
    """Push the image that servers boot from, and find it in Glance."""
    account = Account.of(ctx.connection.session)
    if account is None:
        raise CheckFailed("The cloud has no registry.")  # the runner skips these exercises then
    name, images = ctx.name("pushed"), ctx.connection.image
    repository = f"{ctx.connection.current_project.name.lower()}/{name}"
    client = Client(account, repository)
    booted = images.get_image(ctx.facts.image_id)
    ctx.say(f"pushing {booted.name} as {repository}:{TAG}")
    with (
        tempfile.TemporaryDirectory(prefix="dockstack-verify-") as workspace,
        normalise(
            images.download_image(booted.id, stream=True).iter_content(_CHUNK),
            architecture=machine(booted),
            limits=ImageLimits(),
            workspace=Path(workspace),
            timeout=_CHECK_SECONDS,
        ) as checked,
        postponed(),
    ):
        digest = client.push(checked.stream(), TAG)
        image = images.find_image(f"{name}-{TAG}")
        if image is None:
            raise CheckFailed("What was pushed is no image in Glance.", "Look at `dockstack logs registry`.")
        ctx.stack.callback(images.delete_image, image.id, ignore_missing=True)
    return Pushed(client, f"{urlsplit(account.url).netloc}/{repository}:{TAG}", digest, image)


def machine(image: Any) -> str:
    """Return whose image it is, as machines are called."""
    return str(image.architecture or (image.properties or {}).get("hw_architecture") or os.uname().machine)


REGISTRY = Exercise("registry", "What is pushed to the registry boots, and comes back as it was", push_and_pull, NEEDS)
REFERENCE = Exercise("dockerref", "An image that points to the registry boots", boot_from_reference, NEEDS)

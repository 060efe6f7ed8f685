# SPDX-License-Identifier: Apache-2.0
"""A client of the registry that says and sees every byte, as one person."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from registry_cloud import Person, RegistryCloud

import image_archives

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
MAX_UPLOADS = 5
SECONDS = 240  # what a machine with other work may need for an answer

STEPS = {  # of a push: who does it, how that is called, before it or after
    "nothing is noted": ("pushing", "_note", "before"),
    "the manifest is noted": ("pushing", "_offer", "before"),
    "Glance has an empty image": ("glance", "locate", "before"),
    "Glance has the image": ("glance", "locate", "after"),
    "the tag is set": ("pushing", "_finish", "after"),
    "the former image is not hidden": ("pushing", "_hide", "before"),
}


def at_step(service, step, act):
    """Have something happen at a step of the pushes of a registry that is in this process."""
    room, method, when = STEPS[step]
    victim = getattr(service, room)
    whole = getattr(victim, method)

    def stepping(*arguments, **more):
        if when == "before":
            act()
        answer = whole(*arguments, **more)
        if when == "after":
            act()
        return answer

    setattr(victim, method, stepping)


def needs(*programs):
    """Skip a test where a program is missing."""
    missing = [name for name in programs if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class User:
    """A client of the registry, as one person."""

    cloud: RegistryCloud
    person: Person | None
    tokens: dict = field(default_factory=dict)

    def token(self, name):
        if name not in self.tokens:
            auth = (self.person.credential, self.person.password) if self.person else None
            asked = {"service": "dockstack-registry", "scope": f"repository:{name}:pull,push,delete"}
            answer = requests.get(f"{self.cloud.url}/token", params=asked, auth=auth, timeout=SECONDS)
            answer.raise_for_status()
            self.tokens[name] = answer.json()["token"]
        return self.tokens[name]

    def ask(self, method, path, name=None, **more):
        name = name or path.split("/blobs")[0].split("/manifests")[0].split("/tags")[0].split("/referrers")[0]
        headers = {"Authorization": f"Bearer {self.token(name)}", **more.pop("headers", {})}
        url = path if path.startswith("http") else f"{self.cloud.url}/v2/{path.removeprefix('/v2/')}"
        return requests.request(method, url, headers=headers, timeout=SECONDS, **more)

    def send(self, name, data):
        answer = self.ask("POST", f"{name}/blobs/uploads/", params={"digest": digest(data)}, data=data)
        assert answer.status_code == 201, answer.text
        return {"mediaType": "application/octet-stream", "digest": digest(data), "size": len(data)}

    def manifest(self, name, text="hello", architecture="amd64", **more):
        layer = image_archives.sample_layer(text)
        configuration = image_archives.config([layer], architecture)
        said = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {**self.send(name, configuration), "mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [{**self.send(name, layer), "mediaType": "application/vnd.oci.image.layer.v1.tar"}],
            **more,
        }
        return json.dumps(said).encode()

    def put(self, name, reference, content, kind=MANIFEST):
        return self.ask("PUT", f"{name}/manifests/{reference}", data=content, headers={"Content-Type": kind})

    def push(self, name, tag, text="hello"):
        content = self.manifest(name, text)
        answer = self.put(name, tag, content)
        assert answer.status_code == 201, answer.text
        return content

    def get(self, name, reference):
        return self.ask("GET", f"{name}/manifests/{reference}")


def glance_image(cloud, name, tag="1.0"):
    (found,) = cloud.images(cloud.alice, oci_repository=name, oci_tag=tag)
    return found

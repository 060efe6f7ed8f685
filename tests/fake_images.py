# SPDX-License-Identifier: Apache-2.0
"""An engine that keeps images in memory."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime

from dockstack.compute.engine import Conflict
from dockstack.compute.engine.records import EngineImage
from image_archives import sha256


class FakeEngine:
    """Keeps images as the engine does: content by id, names beside."""

    def __init__(self) -> None:
        self.content: dict[str, dict] = {}
        self.tags: dict[str, str] = {}
        self.loads = 0
        self.wrong_id = False
        self.tagged: dict[str, str] = {}
        self.used: frozenset[str] = frozenset()
        self.now = 0

    def load_image(self, chunks, deadline=None):
        self.loads += 1
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            [manifest] = json.load(archive.extractfile("manifest.json"))
            raw = archive.extractfile(manifest["Config"]).read()
        engine_id = "sha256:" + ("0" * 64 if self.wrong_id else sha256(raw))
        self.content[engine_id] = json.loads(raw)["config"]
        return (engine_id,)

    def image(self, reference):
        engine_id = self.tags.get(reference, reference)
        if engine_id not in self.content:
            return None
        tags = tuple(tag for tag, target in self.tags.items() if target == engine_id)
        config, tagged = self.content[engine_id], self.tagged.get(engine_id, "")
        return EngineImage(engine_id, config, 1000, "amd64", "linux", tags, tagged_at=tagged)

    def images(self, *, reference):
        targets = {target for tag, target in self.tags.items() if tag.rpartition(":")[0] == reference}
        return tuple(EngineImage(target, {}, 1000, "", "") for target in targets)

    def used_images(self):
        return self.used

    def tag_image(self, engine_id, repository, tag):
        self.tags[f"{repository}:{tag}"] = engine_id
        self.tagged[engine_id] = datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")

    def remove_image(self, reference):
        engine_id = self.tags[reference]
        if engine_id in self.used and list(self.tags.values()).count(engine_id) == 1:
            raise Conflict("a container uses it")
        del self.tags[reference]
        if engine_id not in self.tags.values():
            del self.content[engine_id]

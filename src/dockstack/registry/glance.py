# SPDX-License-Identifier: Apache-2.0
"""Glance's API, always with somebody's token: what they may do is what Glance lets them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import requests

from dockstack.registry.faults import CloudSilent, Denied, Unauthorized
from dockstack.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_SECONDS = 60
_ACTIVE_SECONDS = 60
_HASH_SECONDS, _HASH_PAUSE = 5, 0.1
_REPEATABLE = frozenset({"GET", "PATCH", "DELETE"})
_PAUSES = (0.2, 1)
_AT_ONCE = 40  # ids in one question, whose address has to stay short
_CHUNK = 1 << 20
_JSON_PATCH = "application/openstack-images-v2.1-json-patch"


class Glance:
    """The image service."""

    def __init__(self, url: str, authority: str) -> None:
        """Ask nothing yet.

        Args:
            url: the service's address.
            authority: the file of whom to trust; "": whom this system trusts.
        """
        self._url = f"{url.rstrip('/')}/v2/images"
        self._usage = f"{url.rstrip('/')}/v2/info/usage"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = authority or True
        self._session.mount("http", requests.adapters.HTTPAdapter(pool_maxsize=40))

    def find(self, token: str, image_id: str) -> dict[str, Any] | None:
        """Read an image; None if it is gone, or hidden from who asks."""
        answer = self._ask("GET", f"{self._url}/{image_id}", token)
        return None if answer.status_code in (403, 404) else _good(answer).json()

    def listed(self, token: str, ids: Iterable[str]) -> frozenset[str]:
        """Return those of some images that a list shows to who asks, and that have data."""
        asked, found = list(ids), set()
        for start in range(0, len(asked), _AT_ONCE):
            some = ",".join(asked[start : start + _AT_ONCE])
            query = {"id": f"in:{some}", "limit": str(_AT_ONCE), "status": "active"}
            for hidden in ("false", "true"):
                answer = _good(self._ask("GET", self._url, token, params=query | {"os_hidden": hidden}))
                found |= {image["id"] for image in answer.json()["images"]}
        return frozenset(found)

    def named(self, token: str, owner: str, name: str) -> dict[str, Any] | None:
        """Find a project's newest image of a name that has data; None if who asks sees none."""
        # in: and the quotes, because what stands before a colon would be taken for an operator
        query = {"owner": owner, "name": f'in:"{name}"', "status": "active", "sort": "created_at:desc", "limit": "1"}
        found = _good(self._ask("GET", self._url, token, params=query)).json()["images"]
        return found[0] if found else None

    def create(self, token: str, image: Mapping[str, Any]) -> None:
        """Make an image without data; that it is there already is fine."""
        answer = self._ask("POST", self._url, token, json=dict(image))
        if answer.status_code != requests.codes.conflict:
            _good(answer)

    def locate(self, token: str, image_id: str, url: str) -> None:
        """Say where an image's data is, and wait until Glance takes it for there.

        Raises:
            CloudSilent: it does not.
        """
        _good(self._ask("POST", f"{self._url}/{image_id}/locations", token, json={"url": url}))
        deadline, pause = time.monotonic() + _ACTIVE_SECONDS, 0.05
        while time.monotonic() < deadline:
            image = self.find(token, image_id)
            if image is None:
                raise Denied("The image was deleted in Glance while it was pushed.", "Push it again.")
            if image["status"] == "active":
                return
            time.sleep(pause)
            pause = min(2 * pause, 1)
        raise CloudSilent("Glance does not take the image's data.", "Look at the log of glance-api.")

    def change(self, token: str, image_id: str, **values: Any) -> None:
        """Set an image's attributes; absent is fine."""
        patch = [{"op": "add", "path": f"/{name}", "value": value} for name, value in values.items()]
        headers = {"Content-Type": _JSON_PATCH}
        answer = self._ask("PATCH", f"{self._url}/{image_id}", token, json=patch, headers=headers)
        if answer.status_code != requests.codes.not_found:
            _good(answer)

    def hide(self, token: str, image_id: str) -> None:
        """Hide an image.

        While Glance hashes a new one, it writes back what it read of it before: that is waited for, if it is short.
        """

        def is_settled() -> bool:
            image = self.find(token, image_id)
            if image is None:
                return True
            if not image.get("os_hidden"):
                self.change(token, image_id, os_hidden=True)
                return False
            return bool(image.get("os_hash_value"))

        wait_for(is_settled, _HASH_SECONDS, _HASH_PAUSE)

    def delete(self, token: str, image_id: str) -> None:
        """Delete an image; absent is fine."""
        answer = self._ask("DELETE", f"{self._url}/{image_id}", token)
        if answer.status_code != requests.codes.not_found:
            _good(answer)

    def room(self, token: str) -> int | None:
        """Return how many bytes the project may have in Glance besides what it has; None: any number."""
        usage = _good(self._ask("GET", self._usage, token)).json()["usage"].get("image_size_total")
        if usage is None or usage["limit"] < 0:
            return None
        return int(usage["limit"] - usage["usage"]) << 20

    def download(self, token: str, image_id: str) -> Iterator[bytes]:
        """Stream an image's data."""
        with self._ask("GET", f"{self._url}/{image_id}/file", token, stream=True) as answer:
            yield from _good(answer).iter_content(_CHUNK)

    def _ask(self, method: str, url: str, token: str, **more: Any) -> requests.Response:
        headers = {"X-Auth-Token": token, **more.pop("headers", {})}
        try:
            for pause in _PAUSES if method in _REPEATABLE else ():
                answer = self._session.request(method, url, headers=headers, timeout=_SECONDS, **more)
                if answer.status_code < requests.codes.server_error:
                    return answer
                answer.close()
                time.sleep(pause)  # as when two wanted the same row of Glance's database
            return self._session.request(method, url, headers=headers, timeout=_SECONDS, **more)
        except requests.RequestException as error:
            raise CloudSilent("Glance does not answer.", "Try again; see `dockstack status`.", str(error)) from error


def _good(answer: requests.Response) -> requests.Response:
    """Return an answer that says yes.

    Raises:
        Unauthorized: the token has ended.
        Denied: Glance does not let them.
        CloudSilent: Glance is in trouble.
    """
    if answer.ok:
        return answer
    details = f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {answer.text[:500]}"
    if answer.status_code == requests.codes.unauthorized:
        raise Unauthorized("Glance does not take the token any more.", "Log in again.")
    if answer.status_code in (requests.codes.forbidden, requests.codes.request_entity_too_large):
        raise Denied("Glance does not let you do that.", "Look at your roles and at your project's quota.", details)
    raise CloudSilent(f"Glance answers {answer.status_code}.", "Look at the log of glance-api.", details)

# SPDX-License-Identifier: Apache-2.0
"""What a client is refused, as the specification spells it (distribution-spec, "Error Codes")."""

from __future__ import annotations

from dockstack.errors import DockstackError


class Fault(DockstackError):  # noqa: N818 - the specification's codes are no exceptions' names
    """A request that is refused.

    Attributes:
        code: the specification's.
        status: HTTP's.
    """

    code = "UNSUPPORTED"
    status = 400


class Unauthorized(Fault):
    """Nobody said who asks, or what they said is not true."""

    code, status = "UNAUTHORIZED", 401


class ScopeInsufficient(Unauthorized):
    """The token is good, and not for that."""


class Denied(Fault):
    """Who asks may not do that."""

    code, status = "DENIED", 403


class NameUnknown(Fault):
    """There is no such repository, or not for who asks."""

    code, status = "NAME_UNKNOWN", 404


class NameInvalid(Fault):
    """No repository can have that name."""

    code, status = "NAME_INVALID", 400


class ManifestUnknown(Fault):
    """There is no such manifest, or not for who asks."""

    code, status = "MANIFEST_UNKNOWN", 404


class ManifestInvalid(Fault):
    """What was sent is no manifest that can be kept."""

    code, status = "MANIFEST_INVALID", 400


class ManifestBlobUnknown(Fault):
    """A manifest names what the repository does not have."""

    code, status = "MANIFEST_BLOB_UNKNOWN", 404


class BlobUnknown(Fault):
    """There is no such blob, or not for who asks."""

    code, status = "BLOB_UNKNOWN", 404


class DigestInvalid(Fault):
    """A digest is none, or not that of what was sent."""

    code, status = "DIGEST_INVALID", 400


class SizeInvalid(Fault):
    """More was sent than is taken."""

    code, status = "SIZE_INVALID", 413


class UploadUnknown(Fault):
    """There is no such upload; it was finished, cancelled, or forgotten."""

    code, status = "BLOB_UPLOAD_UNKNOWN", 404


class UploadInvalid(Fault):
    """An upload cannot go on like that."""

    code, status = "BLOB_UPLOAD_INVALID", 400


class RangeInvalid(Fault):
    """A chunk does not begin where the upload ends; or nothing of what is asked for is there."""

    code, status = "BLOB_UPLOAD_INVALID", 416


class TooMany(Fault):
    """A project has more uploads open than it may have."""

    code, status = "TOOMANYREQUESTS", 429


class Unsupported(Fault):
    """That cannot be done."""

    code, status = "UNSUPPORTED", 405


class CloudSilent(Fault):
    """Keystone or Glance does not answer, or not as expected."""

    code, status = "UNAVAILABLE", 503


class PageInvalid(Fault):
    """A list is asked for in a way that is not understood."""

    code, status = "PAGINATION_NUMBER_INVALID", 400


class Broken(Fault):
    """A fault of ours."""

    code, status = "UNKNOWN", 500

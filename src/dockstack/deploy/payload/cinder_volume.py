# SPDX-License-Identifier: Apache-2.0
"""cinder-volume without root: what Cinder would do by sudo, it does as its own user.

Cinder looks at images, and copies volumes, by ``sudo cinder-rootwrap`` (cinder/utils.py:get_root_helper; no option says
otherwise). The files of our backend are Cinder's own, and what strangers wrote into them is not for root to parse.
"""

from __future__ import annotations

import sys

from cinder import monkey_patch

monkey_patch.patch()  # as cinder-volume itself does, before anything else of Cinder is loaded

from cinder import utils  # noqa: E402
from cinder.cmd import volume  # noqa: E402

BINARY = "cinder-volume"


def as_itself() -> str:
    """Return the command that Cinder puts before another one which it wants to run as root."""
    return "env"


def main() -> None:
    """Be cinder-volume, with its own arguments, and under that name in logs and reports."""
    sys.argv[0] = BINARY
    utils.get_root_helper = as_itself
    volume.main()


if __name__ == "__main__":
    main()

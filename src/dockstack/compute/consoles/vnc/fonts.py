# SPDX-License-Identifier: Apache-2.0
"""Where the font is: a package of the distribution's; no import of what draws with it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "fonts-dejavu-core"
DIRECTORY = Path("/usr/share/fonts/truetype/dejavu")
REGULAR, BOLD = "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"
SIZE = 16  # pixels; gives cells of 10 x 19

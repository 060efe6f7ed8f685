# SPDX-License-Identifier: Apache-2.0
"""Where the font is: a package of the distribution's; no import of what draws with it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "fonts-dejavu-core"  # Debian's and Ubuntu's
PLACES = (Path("/usr/share/fonts/truetype/dejavu"), Path("/usr/share/fonts/dejavu-sans-mono-fonts"))  # RHEL's: last
DIRECTORY = next((place for place in PLACES if place.is_dir()), PLACES[0])
REGULAR, BOLD = "DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"
SIZE = 16  # pixels; gives cells of 10 x 19

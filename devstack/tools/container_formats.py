# SPDX-License-Identifier: Apache-2.0
"""Print the container formats that Glance takes with a configuration file: its own defaults, unless that has others.

Runs with Glance's Python: ``python container_formats.py /etc/glance/glance-api.conf``.
"""

from __future__ import annotations

import sys

from glance.common import config  # noqa: F401 - declares the option
from oslo_config import cfg

cfg.CONF([], default_config_files=sys.argv[1:])
print(",".join(cfg.CONF.image_format.container_formats))

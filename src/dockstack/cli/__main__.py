# SPDX-License-Identifier: Apache-2.0
"""``python -m dockstack.cli``."""

from dockstack.cli.main import main

main()

# SPDX-License-Identifier: Apache-2.0
"""What Nova does with a host's servers when its service starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nova.context
from nova.virt import driver

if TYPE_CHECKING:
    from collections.abc import Callable


def process_before_each(virtapi: Any, process: Callable[[Any, Any], Any]) -> None:
    """Have Nova 33 call ``process`` where Nova 34 calls a driver's ``process_instances_at_startup`` by itself.

    It must come after the check that the host was not renamed, as a host of a new name has no servers for Nova and all
    would be swept; before Nova looks at each server; and with the very objects that Nova then looks at. The last that
    Nova 33 does with these is to validate them (nova/compute/manager.py:init_host), so it follows that.

    Args:
        virtapi: as Nova gives it to its drivers; one without a compute manager behind it is left alone.
        process: takes a context and the servers.
    """
    manager = getattr(virtapi, "_compute", None)
    if manager is None or hasattr(driver.ComputeDriver, "process_instances_at_startup"):
        return
    validate = manager._validate_vtpm_configuration  # noqa: SLF001 - Nova 33 has no other way in

    def validate_and_process(instances: Any) -> None:
        validate(instances)
        process(nova.context.get_admin_context(), instances)

    manager._validate_vtpm_configuration = validate_and_process  # noqa: SLF001

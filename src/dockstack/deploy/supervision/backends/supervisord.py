# SPDX-License-Identifier: Apache-2.0
"""supervisord, but for one fault: run as a program by the supervisor environment's Python.

A descriptor that supervisord closes and is given again within one round stays registered as what it was. If it is now
the standard input of a program that has closed its own end (uWSGI and MariaDB do), poll(2) returns at once for ever
(POLLERR, of which supervisord takes no notice), and supervisord takes a whole processor.
"""

from __future__ import annotations

from supervisor import poller, supervisord


class FreshPoller(poller.PollPoller):
    """Forgets all descriptors after each round: supervisord names those that it watches before the next anyway."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for one round; return what can be read and what can be written."""
        try:
            readable, writable = super().poll(timeout)
        finally:
            self.initialize()
        return readable, writable

    def unregister_readable(self, descriptor: int) -> None:
        """Do nothing: it is forgotten already."""

    def unregister_writable(self, descriptor: int) -> None:
        """Do nothing: it is forgotten already."""


def main() -> None:
    """Be supervisord, with its own arguments."""
    poller.Poller = FreshPoller
    supervisord.main()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""supervisord with one fault mended; run as a program by the supervisor environment's Python.

When supervisord closes a descriptor and gets the same number again within one round of its loop, the number stays
registered with poll(2) for its old use. If it is now the standard input of a program that has closed its own end (uWSGI
and MariaDB do), poll returns POLLERR at once, supervisord ignores that, and its loop takes a whole processor.
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

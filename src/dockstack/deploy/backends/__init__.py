# SPDX-License-Identifier: Apache-2.0
"""Who supervises the services: systemd, or supervisor where PID 1 is not systemd."""

# SPDX-License-Identifier: Apache-2.0
"""Nova servers as Docker containers on today's OpenStack."""

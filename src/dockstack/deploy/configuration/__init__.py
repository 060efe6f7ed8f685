# SPDX-License-Identifier: Apache-2.0
"""What every service's files say: pure builders from a Settings to text."""

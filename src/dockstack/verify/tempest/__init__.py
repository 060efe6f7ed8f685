# SPDX-License-Identifier: Apache-2.0
"""OpenStack's own test suite, set up for this cloud and run."""

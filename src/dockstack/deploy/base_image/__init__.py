# SPDX-License-Identifier: Apache-2.0
"""The base image: built from the distribution's packages, and uploaded to Glance."""

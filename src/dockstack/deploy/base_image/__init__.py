# SPDX-License-Identifier: Apache-2.0
"""Images for the cloud: the base image, made of the distribution's packages, and the way into Glance."""

# SPDX-License-Identifier: Apache-2.0
"""Being here puts tests/ on the path, so that layers can share builders such as image_archives."""

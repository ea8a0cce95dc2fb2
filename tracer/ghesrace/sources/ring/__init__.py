# SPDX-License-Identifier: Apache-2.0
"""Raw ring-buffer pages into events."""

# SPDX-License-Identifier: Apache-2.0
"""The commands of `ghesrace`, one file each."""

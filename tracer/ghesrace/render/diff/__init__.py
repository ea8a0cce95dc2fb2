# SPDX-License-Identifier: Apache-2.0
"""This says what changed between two reports, and whether it is worse (docs/diff.md)."""

# SPDX-License-Identifier: Apache-2.0
"""The daemon: its loop, its start and its configuration."""

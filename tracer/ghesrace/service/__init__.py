# SPDX-License-Identifier: Apache-2.0
"""This package is the daemon: its loop, its start and its configuration."""

# SPDX-License-Identifier: Apache-2.0
"""This package records events with a private tracefs instance."""

# SPDX-License-Identifier: Apache-2.0
"""This package runs in the guest."""

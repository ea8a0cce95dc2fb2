# SPDX-License-Identifier: Apache-2.0
"""This package fetches kernels to boot, and keeps what a plan needs to know of each."""

# SPDX-License-Identifier: Apache-2.0
"""This package has the BPF programs that judge in the kernel and keep no events."""

# SPDX-License-Identifier: Apache-2.0
"""The BPF programs that judge in the kernel and keep no events."""

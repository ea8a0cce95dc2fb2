# SPDX-License-Identifier: Apache-2.0
"""These modules read what this machine is: its symbols, BTF, HEST, clocks, CPUs and memory."""

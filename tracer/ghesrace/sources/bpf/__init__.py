# SPDX-License-Identifier: Apache-2.0
"""Events by eBPF: compile, load, attach, read."""

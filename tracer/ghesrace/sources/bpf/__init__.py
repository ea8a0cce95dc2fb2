# SPDX-License-Identifier: Apache-2.0
"""This package records events with eBPF: it compiles, loads and attaches programs, and reads what
they write.
"""

# SPDX-License-Identifier: Apache-2.0
"""Litmus cases: what CPUs did and what must be said about it, as plain text (README.md)."""

# SPDX-License-Identifier: Apache-2.0
"""These modules make the HTML report: one file that holds all it needs, and asks no network."""

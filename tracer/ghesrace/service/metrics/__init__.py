# SPDX-License-Identifier: Apache-2.0
"""This package makes what Prometheus sees: the families, node_exporter's textfile, and HTTP."""

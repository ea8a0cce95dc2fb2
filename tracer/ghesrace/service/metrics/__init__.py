# SPDX-License-Identifier: Apache-2.0
"""What Prometheus sees: the families, node_exporter's textfile, HTTP."""

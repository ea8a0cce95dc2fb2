# SPDX-License-Identifier: Apache-2.0
"""A fleet on one machine: daemons, a Prometheus, and faults played one after the other."""

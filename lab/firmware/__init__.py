# SPDX-License-Identifier: Apache-2.0
"""The firmware on the host: a HEST, CPER records, scenarios."""

# SPDX-License-Identifier: Apache-2.0
"""The host plays the firmware here: it has a HEST, writes CPER records and plays scenarios."""

# SPDX-License-Identifier: Apache-2.0
"""This package is the flight recorder, which keeps the evidence of a finding."""

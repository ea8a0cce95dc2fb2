# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: what is kept of a finding."""

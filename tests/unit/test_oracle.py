# SPDX-License-Identifier: Apache-2.0
"""The oracle of worlds (tests/oracle)."""

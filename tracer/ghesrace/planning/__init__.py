# SPDX-License-Identifier: Apache-2.0
"""These modules make a plan from facts about a host and from probe points."""

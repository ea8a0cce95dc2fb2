# SPDX-License-Identifier: Apache-2.0
"""The rule itself, over events in program order; only the engine and the patterns run it."""

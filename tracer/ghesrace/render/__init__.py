# SPDX-License-Identifier: Apache-2.0
"""These modules make what people and programs read: text, JSON and scripts."""

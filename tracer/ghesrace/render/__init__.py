# SPDX-License-Identifier: Apache-2.0
"""What people and programs read: reports and plans as text, JSON and scripts."""

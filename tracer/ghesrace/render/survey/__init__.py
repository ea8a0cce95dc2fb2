# SPDX-License-Identifier: Apache-2.0
"""What a survey of many captures answers, and how it is printed."""

# SPDX-License-Identifier: Apache-2.0
"""One run of the control module in every form that tools print, and what `check` says of each."""

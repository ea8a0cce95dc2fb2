# SPDX-License-Identifier: Apache-2.0
"""Each file here is one command of `ghesrace`."""

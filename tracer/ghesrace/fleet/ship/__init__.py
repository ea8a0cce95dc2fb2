# SPDX-License-Identifier: Apache-2.0
"""New captures of a host are sent to a store, once each, and none is forgotten while it is away."""

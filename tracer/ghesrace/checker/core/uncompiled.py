# SPDX-License-Identifier: Apache-2.0
"""What the core's source asks of Cython, where that is not installed."""

compiled = False


def address(thing: object) -> object:
    """The compiler's address of a thing; nobody asks for it uncompiled."""
    return thing

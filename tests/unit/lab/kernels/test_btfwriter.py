# SPDX-License-Identifier: Apache-2.0
"""BTF that is written is the BTF that is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ghesrace.host.btf import Btf
from lab.kernels.btfwriter import btf

NAMES = st.text("abcxyz_0", min_size=1, max_size=8)
VALUES = st.integers(0, 2**32 - 1)  # it writes enums without a sign


def named(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(NAMES, values, max_size=4)


@given(
    named(named(VALUES)),
    named(named(st.integers(0, 2**20))),
    named(st.lists(st.tuples(st.sampled_from(["", "*", "&"]), NAMES), max_size=5)),
    st.lists(NAMES, max_size=3, unique=True),
)
def test_everything_comes_back(enums, structs, functions, variables) -> None:
    """Facts of a kernel, and hosts made up for tests, would have other offsets than they say."""
    prefixed = {
        name: [mark + parameter for mark, parameter in parameters]
        for name, parameters in functions.items()
    }
    # One name may be an enum and a struct, but no function a variable.
    variables = [f"v_{name}" for name in variables]
    read = Btf(btf(enums, {f"s_{k}": v for k, v in structs.items()}, prefixed, variables))
    for name, values in enums.items():
        assert read.enum(name) == values
    for name, members in structs.items():
        assert read.offsets(f"s_{name}") == members
    for name, parameters in functions.items():
        found = read.function(name)
        assert found is not None
        assert list(found.parameters) == [parameter for _, parameter in parameters]
        assert list(found.scalar) == [mark == "" for mark, _ in parameters]
        assert list(found.struct) == [mark == "&" for mark, _ in parameters]
    assert all(read.variable(name) is not None for name in variables)
    assert read.variable("w") is None

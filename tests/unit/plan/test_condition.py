# SPDX-License-Identifier: Apache-2.0
"""Filters as trees, and the one walk that backends put into words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.plan.condition import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    InContext,
    InTask,
    Leaf,
    leaves,
    read_condition,
    rendered,
)
from ghesrace.plan.fetch import Text

LEAVES = st.one_of(
    st.builds(Compare, st.just("addr"), st.sampled_from(("==", "<", "&")), st.integers(0, 3)),
    st.builds(InTask, st.integers(0, 3)),
    st.just(InContext(("nmi",))),
)


def groups(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    some = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.builds(AllOf, some) | st.builds(AnyOf, some)


TREES: st.SearchStrategy[Condition] = LEAVES | groups(LEAVES | groups(LEAVES))


def truth(leaf: Leaf, addr: int, task: int, nmi: bool) -> bool:
    if isinstance(leaf, InTask):
        return task == leaf.task
    if isinstance(leaf, InContext):
        return nmi
    value = leaf.value
    return {"==": addr == value, "<": addr < value, "&": bool(addr & value)}[leaf.operator]


def holds(tree: Condition, *event: int) -> bool:
    """The definition."""
    if isinstance(tree, AllOf):
        return all(holds(part, *event) for part in tree.all)
    if isinstance(tree, AnyOf):
        return any(holds(part, *event) for part in tree.any)
    assert not isinstance(tree, Text)
    return truth(tree, *event)


@given(TREES, st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_the_text_means_what_the_tree_means(
    tree: Condition, addr: int, task: int, nmi: bool
) -> None:
    """If this fails, a bracket is missing: the kernel filters by something else than the plan
    says, and events are lost without a word."""
    text = rendered(tree, lambda leaf: f"{truth(leaf, addr, task, nmi)}")
    python = text.replace("&&", "and").replace("||", "or")
    assert eval(python) is holds(tree, addr, task, nmi)


def test_a_test_of_bits_stands_alone() -> None:
    """If this fails, `a & 1 == 1` may be read as a comparison of bits in C."""
    tree = AllOf((Compare("wait", "&", 1), AnyOf((InContext(("nmi",)), InTask(7)))))
    text = rendered(tree, lambda leaf: type(leaf).__name__, brackets=("[", "]"))
    assert text == "[Compare] && [[InContext] || InTask]"


@given(TREES)
def test_reading_gives_the_tree_that_was_written(tree: Condition) -> None:
    """If this fails, a plan in a file filters by something else than the one that was attached."""

    def written(tree: Condition) -> dict[str, object]:
        if isinstance(tree, AllOf):
            return {"all": [written(part) for part in tree.all]}
        if isinstance(tree, AnyOf):
            return {"any": [written(part) for part in tree.any]}
        made = {name: getattr(tree, name) for name in type(tree).__dataclass_fields__}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in made.items()}

    assert read_condition(written(tree)) == tree
    text = rendered(tree, lambda leaf: "x")
    assert len(re.findall("x", text)) == len(list(leaves(tree)))


def test_old_text_is_not_walked() -> None:
    """If this fails, the text of an old plan's filter becomes part of a program."""
    with pytest.raises(TypeError):
        rendered(Text("1; return"), lambda leaf: "x")
    assert list(leaves(Text("index == 644"))) == []

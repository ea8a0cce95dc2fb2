# SPDX-License-Identifier: Apache-2.0
"""Makes mutants of a module: one small fault each, in any function, method or class body.

Own code, because the libraries leave out what matters here. mutmut 3 skips whatever is decorated.
cosmic-ray does not, but it rewrites files on disk and starts the test suite anew for each mutant,
makes eleven mutants of each `|`, those of annotations too, and knows neither removed statements nor
the faults that array code and enums invite: `np.maximum` for `np.minimum`, one operand of a
mask dropped, the next member of an enum.

Nothing is made of docstrings, annotations, decorators, text (f-strings, messages), imports or
declarations for Cython: such a mutant is equal to the original by construction, or changes only
words. Nor of what only a compiled module runs, as a mutant is never compiled: what
`cython.compiled` guards, alone or with other conditions, and functions that read memory by
`cython.address`.
"""

from __future__ import annotations

import ast
import copy
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
RENAMED = {"min": "max", "minimum": "maximum", "any": "all", "left": "right", "fmin": "fmax"}
RENAMED |= {"first_between": "last_between"}
RENAMED |= {new: old for old, new in RENAMED.items()}
FORMAL = ("strict", "init", "slots", "frozen")  # keywords that say nothing about the rule
MASKS = (ast.BitAnd, ast.BitOr)

Change = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault. `function` is the qualified name of the innermost function or class that it is
    in, "" for a module's own; `n` is its number in the module, `what` says it in code.
    """

    module: str
    function: str
    line: int
    n: int
    what: str

    @property
    def name(self) -> str:
        """What results are filed under."""
        return f"{self.module}:{self.n}"


@dataclass(slots=True)
class _Site:
    function: str
    line: int
    what: str
    apply: Change


class Module:
    """The source of one module, and all mutants of it.

    *names* are what the module's names stand for, so that the members of an enum are known.
    Example: `Module("m", "def f(x): return x < 1", "m.py", {}).mutants` has `x <= 1` and others.
    """

    def __init__(self, name: str, text: str, path: str, names: Mapping[str, Any]) -> None:
        self.name, self.path = name, path
        self._tree = ast.parse(text, path)
        self._names = names
        self.mutants = [
            Mutant(name, site.function, site.line, n, site.what)
            for n, site in enumerate(_sites(self._tree, names))
        ]
        self.functions = _functions(self._tree)

    def code(self, n: int | None = None) -> CodeType:
        """The compiled module with mutant *n* in it; without, as it is."""
        tree = copy.deepcopy(self._tree)
        if n is not None:
            next(site for at, site in enumerate(_sites(tree, self._names)) if at == n).apply()
            ast.fix_missing_locations(tree)
        return compile(tree, self.path, "exec", dont_inherit=True)


def _functions(tree: ast.Module) -> list[str]:
    """Qualified names of all functions that do something: no bodies of `...` alone."""
    found = []

    def walk(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = _named(child, inside)
            if isinstance(child, ast.FunctionDef) and _work(child) and not _only_compiled(child):
                found.append(name)
            walk(child, name)

    walk(tree, "")
    return found


def _named(node: ast.AST, inside: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return f"{inside}.{node.name}" if inside else node.name
    return inside


def _work(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a function that are neither docstring nor `...` nor `pass`."""
    return [s for s in function.body if not (isinstance(s, ast.Pass) or _is_text(s))]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and _constant(node.value)


def _constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant)


def _sites(tree: ast.Module, names: Mapping[str, Any]) -> Iterator[_Site]:
    """All places where a fault can be put into *tree*, in an order that is always the same."""
    return _inside(tree, "", names)


def _inside(node: ast.AST, function: str, names: Mapping[str, Any]) -> Iterator[_Site]:
    for field, child in _children(node):
        here = _named(child, function)
        line = getattr(child, "lineno", 0)
        for what, change in _changes(node, field, child, names):
            yield _Site(here, line, what, change)
        yield from _inside(child, here, names)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The children that run and matter: no annotations, decorators, docstrings, texts, imports."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "bases"):
            continue
        if isinstance(node, ast.If) and _asks_mode(node.test) and field != "orelse":
            continue
        if isinstance(node, ast.ClassDef) and field == "keywords":
            continue
        if isinstance(node, ast.keyword) and node.arg in FORMAL:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            words = ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Raise
            if _is_text(child) or _is_cython(child) or isinstance(child, words):
                continue
            if isinstance(child, ast.FunctionDef) and _only_compiled(child):
                continue
            if isinstance(node, ast.Module) and _is_alias(child):
                continue
            yield field, child


def _is_cython(node: ast.AST) -> bool:
    """Whether it only tells Cython something: `cython.declare(...)`, `cython.compiled`."""
    while isinstance(node, ast.Expr | ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id == "cython"


def _asks_mode(test: ast.AST) -> bool:
    """Whether a condition holds in a compiled module alone: `a and cython.compiled`."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_asks_mode(value) for value in test.values)
    return _is_cython(test)


def _only_compiled(function: ast.FunctionDef) -> bool:
    """Whether a function reads memory by its address, which Python can't."""
    return any(ast.unparse(node) == "cython.address" for node in ast.walk(function))


def _is_alias(node: ast.AST) -> bool:
    """Whether a module's statement only names a type: `Ints = npt.NDArray[np.int64]`."""
    value = getattr(node, "value", None)
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(value, ast.Subscript):
        return False
    return ast.unparse(value).startswith(("npt.", "Callable", "Literal", "dict[", "tuple["))


def _changes(
    parent: ast.AST, field: str, node: ast.AST, names: Mapping[str, Any]
) -> Iterator[tuple[str, Change]]:
    """The faults of one node: what each reads like, and what makes it."""

    def instead(new: ast.AST) -> tuple[str, Change]:
        def change() -> None:
            _replace(parent, field, node, new)

        text = ast.unparse(node).splitlines()[0]
        return f"{text[:70]} -> {ast.unparse(new).splitlines()[0][:70]}", change

    if isinstance(node, ast.FunctionDef) and _work(node):
        yield (
            f"{node.name}() does nothing",
            lambda: node.body.__setitem__(slice(None), [ast.Return(value=None)]),
        )
    elif isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            for other in COMPARED[type(op)]:
                yield instead(_with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]]))
    elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
        yield instead(_with(node, op=COMPUTED[type(node.op)]()))
        if isinstance(node.op, MASKS):
            yield from (instead(node.left), instead(node.right))
    elif isinstance(node, ast.BoolOp):
        yield instead(_with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))
        for value in node.values:
            rest = [v for v in node.values if v is not value]
            yield instead(_with(node, values=rest) if len(rest) > 1 else rest[0])
    elif isinstance(node, ast.Tuple):
        if all(isinstance(element, ast.Attribute) for element in node.elts):
            for element in node.elts:
                yield instead(_with(node, elts=[e for e in node.elts if e is not element]))
    elif isinstance(node, ast.UnaryOp) and not _constant(node.operand):
        yield instead(node.operand)
    elif isinstance(node, ast.Constant):
        for value in _other_values(node.value):
            yield instead(ast.Constant(value))
    elif isinstance(node, ast.Name | ast.Attribute):
        for new in _other_names(node, names):
            yield instead(new)
    elif isinstance(node, ast.IfExp):
        yield from (instead(node.body), instead(node.orelse))
    elif isinstance(node, ast.Call):
        if ast.unparse(node.func) == "np.where" and len(node.args) == 3:
            yield from (instead(node.args[1]), instead(node.args[2]))
    elif isinstance(node, ast.If) and _asks_mode(node.test):
        return  # only its `else` runs uncompiled
    elif isinstance(node, ast.If | ast.While):
        for value in (False,) if isinstance(node, ast.While) else (True, False):
            text = ast.unparse(node.test)[:70]
            yield f"if {text} -> if {value}", _setter(node, "test", ast.Constant(value))
    elif _is_removable(node):
        yield f"{ast.unparse(node).splitlines()[0][:70]} removed", instead(ast.Pass())[1]


def _other_values(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1,) if value != 1 else (0, 2)
    if isinstance(value, str) and value in RENAMED:
        return (RENAMED[value],)
    return ()


def _other_names(node: ast.Name | ast.Attribute, names: Mapping[str, Any]) -> Iterator[ast.expr]:
    """The next member of an enum; the counterpart of a function that has one."""
    if not isinstance(node.ctx, ast.Load):
        return
    if isinstance(node, ast.Name):
        if node.id in RENAMED:
            yield ast.Name(RENAMED[node.id], ast.Load())
        return
    if node.attr in RENAMED:
        yield _with(node, attr=RENAMED[node.attr])
    owner = names.get(node.value.id) if isinstance(node.value, ast.Name) else None
    if isinstance(owner, enum.EnumMeta) and node.attr in owner.__members__:
        members = list(owner.__members__)
        yield _with(node, attr=members[(members.index(node.attr) + 1) % len(members)])


def _is_removable(node: ast.AST) -> bool:
    """Statements whose removal leaves code that can run: no names stay unset."""
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Continue | ast.Break):
        return True
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    return False


def _with(node: Any, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _setter(node: ast.AST, field: str, value: ast.AST) -> Change:
    return lambda: setattr(node, field, value)


def _replace(parent: ast.AST, field: str, old: ast.AST, new: ast.AST) -> None:
    held = getattr(parent, field)
    if isinstance(held, list):
        held[[child is old for child in held].index(True)] = new
    else:
        setattr(parent, field, new)

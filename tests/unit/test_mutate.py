# SPDX-License-Identifier: Apache-2.0
"""The mutation tester (tests/mutate): mutants reach what they should, and really run."""

from __future__ import annotations

import ast
import enum
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutate import pinned, results
from tests.mutate.mutator import Module, Mutant
from tests.mutate.server import Server, Tried
from tests.mutate.targets import RULE, sources
from tests.oracle import programs
from tests.oracle.compare import differences

TEXT = '''"""Text: 1 < 2."""
from __future__ import annotations
import dataclasses, enum, functools
Alias = dict[str, 3]
class Color(enum.IntEnum):
    """Text."""
    RED = 1
    BLUE = 2
@dataclasses.dataclass(frozen=True)
class Data:
    size: int | None = 4
    @property
    def twice(self) -> int | None:
        """Text."""
        return self.size * 2
    @functools.cache
    def cached(self) -> bool:
        def inner() -> bool:
            return self.size < 5
        return inner()
    def stub(self) -> None: ...
def masked(a: int, b: int | None = None) -> int:
    if a == 9:
        raise ValueError(f"{a + 1} is no {b}")
    return a & ~b if a and b else min(a, 7)
def colored(items):
    cython.declare(n=cython.int, m=5)
    if cython.compiled:
        items = [66]
    else:
        items = items[1:]
    items[0] = Color.RED
    return items
'''


class Color(enum.IntEnum):
    RED = 1
    BLUE = 2


@pytest.fixture
def module() -> Module:
    return Module("m", TEXT, "m.py", {"Color": Color})


def of(module: Module, function: str) -> list[str]:
    return [m.what for m in module.mutants if m.function == function]


def test_what_is_decorated_is_mutated(module: Module) -> None:
    """Half of the rule, its dataclasses, methods and properties, would count as tested."""
    assert of(module, "Data.twice") == ["twice() does nothing", "self.size * 2 -> self.size // 2",
                                        "2 -> 3"]  # fmt: skip
    assert of(module, "Data.cached") == ["cached() does nothing"]
    assert "self.size < 5 -> self.size <= 5" in of(module, "Data.cached.inner")
    assert of(module, "Data") == ["4 -> 5"]
    assert of(module, "Color") == ["1 -> 0", "1 -> 2", "2 -> 3"]


def test_each_kind_of_fault(module: Module) -> None:
    """An operator that makes no mutants any more would make the share that is killed look good."""
    masked = of(module, "masked")
    for what in (
        "masked() does nothing",
        "if a == 9 -> if True",
        "if a == 9 -> if False",
        "a == 9 -> a != 9",
        "a & ~b -> a | ~b",
        "a & ~b -> a",
        "a & ~b -> ~b",
        "~b -> b",
        "a and b -> a or b",
        "a and b -> b",
        "min -> max",
        "7 -> 8",
        "a & ~b if a and b else min(a, 7) -> min(a, 7)",
    ):
        assert what in masked, what
    assert "items[0] = Color.RED removed" in of(module, "colored")
    assert "Color.RED -> Color.BLUE" in of(module, "colored")


def test_what_only_words_are_is_left_alone(module: Module) -> None:
    """Mutants that nothing can kill would hide those that something should."""
    assert not [m for m in module.mutants if m.function == ""]  # alias, docstring, imports
    assert not [m.what for m in module.mutants if "None" in m.what.split("->")[0]]
    assert not [m for m in module.mutants if "+ 1" in m.what]  # of the message
    assert not [m for m in module.mutants if "cython" in m.what or "66" in m.what]
    assert set(of(module, "colored")) == {
        "colored() does nothing",
        "1 -> 0",
        "1 -> 2",
        "items[0] = Color.RED removed",
        "Color.RED -> Color.BLUE",
        "0 -> 1",
    }
    assert module.functions == [
        "Data.twice", "Data.cached", "Data.cached.inner", "masked", "colored",
    ]  # fmt: skip


def test_each_mutant_is_another_program(module: Module) -> None:
    """A mutant that equals the original can't be killed, and one that is invalid tests nothing."""
    codes = {dump(module.code(m.n)) for m in module.mutants}
    assert dump(module.code()) not in codes
    assert len(codes) >= len(module.mutants) - 2  # `if a and b -> a` and the like may coincide


def dump(code: object) -> str:
    parts = [code.co_code.hex(), repr(code.co_names)]
    parts += [dump(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return " ".join(parts)


PACKAGE = {
    "__init__": "",
    "rule": """
import dataclasses
@dataclasses.dataclass
class Rule:
    limit: int = 3
    def below(self, x):
        return x < self.limit
def spin(x):
    while x > 0:
        x = x - 1
    return x
def unused():
    return 11
""",
    "user": "from .rule import Rule, spin\ndef ask(x):\n    return Rule().below(x), spin(x)\n",
    "suite": """
from .user import ask
def checks():
    yield "below", lambda: [] if ask(2) == (True, 0) else ["wrong"]
    yield "above", lambda: [] if ask(4) == (False, 0) else ["wrong"]
""",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "toymutated"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield Server(
        {"toymutated.rule": folder / "rule.py"}, "toymutated.suite", ["toymutated"], budget=1
    )
    for name in [n for n in sys.modules if n.startswith("toymutated")]:
        del sys.modules[name]


def test_mutants_run_and_are_judged(server: Server) -> None:
    """A mutant that never ran would count as survived, or one that broke nothing as killed."""
    assert server.unchanged().by == ""
    tried = {t.mutant.what: t for t in server.attempts(server.shuffled(1), jobs=2)}
    outcomes = {what: t.outcome for what, t in tried.items()}
    # Also the default of a dataclass, in a name that another module took with `from ... import`.
    assert outcomes["x < self.limit -> x >= self.limit"] == "killed"
    assert tried["x < self.limit -> x >= self.limit"].by == "below: ['wrong']"
    assert outcomes["3 -> 4"] == "survived"  # ask(3) is not tried: a true gap of this suite
    assert outcomes["x - 1 -> x + 1"] == "timeout"
    assert outcomes["unused() does nothing"] == outcomes["11 -> 12"] == "survived"
    assert len(tried) == len({m.what for m in server.mutants})
    assert server.unchanged().by == ""  # no fault stays behind


def test_a_busy_host_kills_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had to wait for a CPU would count as an endless loop, and so as killed."""
    monkeypatch.setattr("tests.mutate.server.PATIENCE", 0)
    (kept,) = [m for m in server.mutants if m.what == "3 -> 4"]
    (tried,) = server.attempts([kept], 1)
    assert tried.outcome == "undecided"


def test_a_fault_in_the_file_itself_is_not_looked_at(server: Server) -> None:
    """Whatever else an import would find (a compiled module), the mutated source runs."""
    server.paths["toymutated.rule"].write_text("raise SystemError('from the file')")
    assert server.unchanged().by == ""


def test_a_planted_fault_runs_in_every_module_of_the_rule() -> None:
    """Mutants of a module that is not imported anew would all survive, whatever the suite."""
    server = Server(sources(RULE), "tests.mutate.suite", ("ghesrace", "tests"))
    assert len(server.modules) >= len(RULE)
    assert results.untouched(server.modules.values()) == []
    for name in server.modules:
        kept = server._codes[name]
        server._codes[name] = compile("raise SystemError('planted')", name, "exec")
        assert server.unchanged().by == "import: SystemError: planted", name
        server._codes[name] = kept
    (fault,) = [m for m in server.mutants if m.what == "report() does nothing"]
    (tried,) = server.attempts([fault], 1)
    assert tried.outcome == "killed"


def test_the_rule_is_named_in_one_place() -> None:
    """A move would take a part of the rule out of the count, and nobody would see it."""
    with pytest.raises(ValueError, match=r"no\.such|no module"):
        sources(("ghesrace.nosuch",))
    found = sources(("ghesrace",))
    assert "ghesrace.render.names" in found  # packages, with what is inside them


def test_a_run_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    """Three hours would begin anew, or old results be taken for those of new code."""
    path = tmp_path / "deep" / "mutate.jsonl"
    one = Tried(Mutant("m", "f", 3, 0, "1 -> 2"), "killed", "litmus x: y", 0.5)
    first = results.Results(path, "abc")
    first.add(one)
    path.write_text(path.read_text() + '{"mutant": {"module"')
    assert results.Results(path, "abc").tried == {"m:0": one}
    with pytest.raises(results.StaleError, match="of other sources"):
        results.Results(path, "abd")
    assert json.loads(path.read_text().splitlines()[0]) == {"of": "abc"}


def test_the_fingerprint_knows_each_file(tmp_path: Path) -> None:
    """Results of another suite would be mixed in."""
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("x")
    before = results.fingerprint(files)
    files[1].write_text("y")
    assert results.fingerprint(files) != before


def test_share_and_its_interval() -> None:
    """The estimate would promise more than a sample can."""
    low, high = results.interval(80, 100)
    assert (round(low, 3), round(high, 3)) == (0.711, 0.867)
    assert results.interval(0, 0) == (0, 1)
    tried = [Tried(Mutant("m", "f", 1, n, "x"), "killed", "", 1.0) for n in range(4)]
    tried.append(Tried(Mutant("m", "f", 1, 4, "x"), "survived", "", 1.0))
    assert results.summary(5, tried) == "4 of all 5 mutants killed: 80.0%"
    assert "of 9 in all: 80.0%, 95 % interval 37.6% to 96.4%" in results.summary(9, tried)
    module = Module("m", "def f(x):\n    return x < 1\n", "m.py", {})
    assert [line.split() for line in results.table([module], tried).splitlines()[1:]] == [
        ["5", "5", "1", "m"],
        ["5", "5", "1", "f"],
    ]


def test_a_function_without_mutants_is_named() -> None:
    """ "No survivors" would be said of what was never tried."""
    module = Module("m", "def f(x):\n    return x\n", "m.py", {})
    assert results.untouched([module]) == []
    module.mutants.clear()
    assert results.untouched([module]) == ["m: f"]
    assert ast.parse(TEXT)


def test_pinned_answers_are_the_checkers() -> None:
    """A stale pin would kill every mutant, and prove nothing: pin anew if the rule has changed for
    a reason (`python -m tests.mutate.pinned 450`)."""
    answers = pinned.pinned()
    assert len(answers) == 450
    assert {seed: pinned.told(seed) for seed in answers} == answers


def test_pinned_answers_are_those_of_the_worlds() -> None:
    """A wrong answer that is pinned would keep the rule from being mended."""
    some = list(pinned.pinned())[::15]
    assert not [seed for seed in some if differences(programs.sample(seed))[1]]

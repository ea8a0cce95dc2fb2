# SPDX-License-Identifier: Apache-2.0
"""The mutation tester (tests/mutate): mutants reach what they should, and really run."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mutate import pinned, plain, results, search
from tests.mutate.mutator import Module, Mutant
from tests.mutate.server import Server, Tried
from tests.mutate.targets import RULE, sources

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
if not len and cython.compiled:
    import cython
def scanned(items):
    return cython.address(items[0]).ts + 77
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


@pytest.fixture(autouse=True)
def mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server asks for the source (GHESRACE_PURE); what comes next in this process does not."""
    monkeypatch.setenv("GHESRACE_PURE", os.environ.get("GHESRACE_PURE", ""))


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
    assert not [m for m in module.mutants if "77" in m.what or "len" in m.what]  # only compiled
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_pinned_answers_are_the_checkers() -> None:
    """A stale pin would kill every mutant, and prove nothing: pin anew if the rule has changed for
    a reason (`python -m tests.mutate.pinned`)."""
    answers = pinned.pinned()
    assert len([name for name in answers if name.isdigit()]) >= 450
    assert {path.stem for path in pinned.CASES.glob("*.litmus")} <= answers.keys()
    assert {name: pinned.told(name) for name in answers} == answers


@pytest.mark.slow
def test_pinned_answers_are_those_of_the_worlds() -> None:
    """A wrong answer that is pinned would keep the rule from being mended."""
    some = [name for name in pinned.pinned() if name.isdigit()][::15]
    assert pinned.uncontradicted(some) == some


def test_a_pin_tells_every_part_of_an_answer() -> None:
    """A fault in counts, findings or witnesses would not be seen by the random records."""
    name = next(name for name in pinned.pinned() if name.isdigit())
    report, _ = pinned._answer(name)
    assert pinned.digest(report) == pinned.digest(pinned._answer(name, cut=True)[0])
    digests = {pinned.digest(report)}
    for change in ({"events": 0}, {"reasons": ["x"]}, {"findings": [None]}, {"slots": []}):
        digests.add(pinned.digest(dataclasses.replace(report, **change)))
    assert len(digests) == 5


def test_plain_tests_are_called_with_each_set_of_their_parameters() -> None:
    """A unit test that is left out in silence would kill nothing."""
    called: list[tuple[int, ...]] = []

    @pytest.mark.parametrize("a", [1, 2])
    @pytest.mark.parametrize(("b", "c"), [(3, 4), pytest.param(5, 6)])
    def test_both(a: int, b: int, c: int) -> None:
        called.append((a, b, c))

    def test_alone() -> None:
        raise AssertionError

    def test_with_a_fixture(tmp_path: Path) -> None:
        raise NotImplementedError

    @pytest.mark.parametrize("path", [Path("a.litmus")])
    def test_of_a_file(path: Path) -> None:
        raise NotImplementedError

    @given(st.integers())
    def test_of_hypothesis(n: int) -> None:
        raise NotImplementedError

    module = ModuleType("tests.unit.m")
    tests = (test_both, test_alone, test_with_a_fixture, test_of_a_file, test_of_hypothesis)
    vars(module).update({test.__name__: test for test in tests})
    checks = dict(plain.of(module))
    assert list(checks) == [*(f"m test_both {n}" for n in range(4)), "m test_alone 0"]
    with pytest.raises(AssertionError):
        checks.pop("m test_alone 0")()
    for check in checks.values():
        check()
    assert sorted(called) == [(1, 3, 4), (1, 5, 6), (2, 3, 4), (2, 5, 6)]


def test_the_plain_tests_are_those_of_the_checker() -> None:
    """A module of tests that is moved would leave the suite unseen."""
    modules = {name.split()[0] for name, _ in plain.plain()}
    assert modules == {"example", *(name.rpartition(".")[2] for name in plain.MODULES)}


def test_a_record_that_is_answered_otherwise_tells_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search would call a fault that a record tells one that makes no difference."""
    right = {name: pinned.told(name) for name in ("0", "1")}
    pool = tmp_path / "pool"
    pool.write_bytes(pickle.dumps({**right, "1": "race-observed"}))
    monkeypatch.setenv(search.POOL, str(pool))
    assert {name: bool(check()) for name, check in search.checks()} == {"0": False, "1": True}

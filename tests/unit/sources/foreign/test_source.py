# SPDX-License-Identifier: Apache-2.0
"""Foreign traces: trace.dat of both versions, texts, losses, and hostile input."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from ghesrace import cli
from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import InputError, UsageError
from ghesrace.events import ALL_CPUS, Cause, Context, Events, Kind
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.dat.header import expand
from ghesrace.sources.foreign.text.pages import LAYOUT, Columns, pages, text_format
from ghesrace.sources.ring.pages import UNCOUNTED, decode
from tests.build.paths import CORPUS

from . import fuzz

# The control module's race as a kernel prints it, with one CPU's stale window: x maps frame 1,
# y maps frame 2 and reads.
HEAD = "# tracer: nop\n# entries-in-buffer/entries-written: {}/{}   #P:2\n"


def line(cpu: int, us: int, text: str, flags: str = "d.h1.") -> str:
    return f"          <idle>-0       [{cpu:03}] {flags}  {us / 1e6:.6f}: {text}\n"


def visit(cpu: int, us: int, pfn: int, flags: str = "d.h1.", page: int = 0xFFC90000) -> str:
    """One report of the 2015 protocol: map, read, unmap, local flush."""
    address = f"{0xFFFFC90000000000 + page:#x}"
    return "".join(
        line(cpu, us + 2 * n, text, flags)
        for n, text in enumerate(
            (
                f"m: (ghes_ioremap_pfn_irq+0x0/0x40 [old]) pfn={pfn}",
                f"r: (memcpy_fromio+0x0/0xb0) src={address} n=20",
                f"u: (ghes_iounmap_irq+0x0/0x40 [old]) vaddr={address}",
                f"f: (arch_apei_flush_tlb_one+0x0/0x10 [old]) addr={address}",
            )
        )
    )


def race(gap: int = 1000) -> str:
    """CPU 1 visits, CPU 0, then CPU 1 again with another frame: a stale window on CPU 1."""
    return "".join(visit(n % 2, 1_000_000 + n * gap, 0x100 + n) for n in range(6))


def judged(path: Path, map_file: Path | None = None) -> tuple[Report, Events]:
    source = open_file(path, map_file)
    engine = Engine(source.plan)
    batches = list(source.batches())
    for batch in batches:
        assert batch["kind"][-1] == Kind.MARK
        engine.feed(batch)
    engine.finish()
    return engine.report(), np.concatenate(batches)


def losses(events: Events, cause: Cause) -> Events:
    return events[(events["kind"] == Kind.LOSS) & (events["aux"] == cause)]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.write_text(HEAD.format(24, 24) + race())
    return path


# -- trace.dat ---------------------------------------------------------------------------


def test_trace_dat_of_version_7_has_every_event_and_finding() -> None:
    """A recording made with our own trace-cmd script would be judged wrongly."""
    report, events = judged(CORPUS / "v7-zstd.dat")
    # trace-cmd report prints as many lines, and a live capture of that run has these counts.
    assert report.events == 3671
    assert report.verdict is Verdict.OBSERVED
    slots = {slot.name: slot for slot in report.slots}
    assert slots["ghes2015:irq"].episodes == 80
    assert slots["ghes2015:nmi"].episodes == 77
    assert [slots[f"ghes2015:{name}"].classes[5] for name in ("irq", "nmi")] == [40, 40]
    assert slots["fixmap-645-nmi"].address == 0xFFFFFFFFFF57A000
    assert sum(f.count for f in report.findings) == 80
    nmis = events[(events["kind"] == Kind.NOTIFY) & (events["ctx"] == Context.NMI)]
    assert len(nmis) > 150


def test_trace_dat_of_version_6_is_the_end_of_the_same_recording() -> None:
    """Version 6 keeps instances in an option and page tables inline: another way through."""
    _, old = judged(CORPUS / "v6.dat")
    _, new = judged(CORPUS / "v7-zstd.dat")
    names = ("ts", "addr", "phys", "size", "pid", "kind", "ctx")
    for cpu in (0, 1):
        mine, theirs = (e[(e["cpu"] == cpu) & (e["kind"] < Kind.LOSS)] for e in (old, new))
        assert len(mine) > 400
        for name in names:
            assert np.array_equal(mine[name], theirs[name][-len(mine) :]), name


def test_trace_dat_is_recognised_by_content_and_cut_ones_are_said_to_be(tmp_path: Path) -> None:
    """A name says nothing; a cut file judged as whole could be called clean."""
    whole = (CORPUS / "v6.dat").read_bytes()
    path = tmp_path / "picture.png"
    path.write_bytes(whole[:-6000])
    report, events = judged(path)
    assert report.truncated
    assert len(losses(events, Cause.TRUNCATED)) == 1
    assert cli.main(["check", str(path), "-o", str(tmp_path / "out")]) in (1, 3)
    path.write_bytes(whole[:3000])
    with pytest.raises(InputError, match="middle of its head"):
        open_file(path)


def test_missed_events_of_a_page_become_a_loss_at_their_place(tmp_path: Path) -> None:
    """An overrun that is not seen makes a lossy recording clean."""
    made = bytearray((CORPUS / "v6.dat").read_bytes())
    at = len(made) - 2 * 4096  # CPU 1 is last in the file: its last page but one
    commit = struct.unpack_from("<Q", made, at + 8)[0]
    struct.pack_into("<Q", made, at + 8, commit | 1 << 31)
    path = tmp_path / "trace.dat"
    path.write_bytes(made)
    report, events = judged(path)
    (loss,) = losses(events, Cause.OVERRUN)
    assert loss["cpu"] == 1
    assert loss["ts"] == struct.unpack_from("<Q", made, at)[0]
    assert loss["addr"] < loss["ts"]
    assert report.lost is None


def test_misses_beside_the_file_are_losses(tmp_path: Path) -> None:
    """FILE.missed is the only place that tells of skipped probes."""
    path = tmp_path / "a.dat"
    shutil.copy(CORPUS / "v7-zstd.dat", path)
    (tmp_path / "a.dat.missed").write_text("  p0_fixmap_set_173   10   3\n  p1_copy_173  1  0\n")
    report, events = judged(path)
    (loss,) = losses(events, Cause.MISSED)
    assert (loss["size"], loss["cpu"]) == (3, ALL_CPUS)
    assert any(reason.startswith("losses") for reason in report.reasons)


# -- text --------------------------------------------------------------------------------


def test_ftrace_text_is_judged_by_the_symbols_it_prints(text: Path) -> None:
    """Probes of other names, with arguments of other names, would not be understood."""
    report, events = judged(text)
    assert report.verdict is Verdict.OBSERVED
    assert report.events == 24
    assert [slot.name for slot in report.slots] == ["old:irq"]
    assert set(events["ctx"][events["kind"] < Kind.LOSS].tolist()) == {Context.IRQ}
    maps = events[events["kind"] == Kind.MAP]
    assert sorted(maps["phys"].tolist()) == [n << 12 for n in range(0x100, 0x106)]
    assert report.findings[0].cpus in ((0, 1), (1, 0))


def test_second_probe_on_a_function_is_left_out(text: Path) -> None:
    """Every map would be there twice: the first of each pair is never unmapped nor flushed."""
    expected, _ = judged(text)
    once = text.read_text()
    lines = once.splitlines(keepends=True)
    text.write_text(
        "".join(x + (x.replace(": m:", ": also:") if ": m:" in x else "") for x in lines)
    )
    report, _ = judged(text)
    assert report.slots == expected.slots
    assert any("also" in unseen.what for unseen in report.unseen)


def test_probe_inside_a_function_is_not_its_entry(text: Path) -> None:
    """Behind the map's PTE write the frame argument is anything."""
    text.write_text(race().replace("ghes_ioremap_pfn_irq+0x0/", "ghes_ioremap_pfn_irq+0x20/"))
    with pytest.raises(InputError, match="no event in it maps"):
        open_file(text)


@pytest.mark.parametrize(
    ("flags", "context"),
    [
        ("d.Z1.", Context.NMI),
        ("d.z1.", Context.NMI),
        ("d.H1.", Context.IRQ),
        ("..s1.", Context.SOFTIRQ),
        (".....", Context.TASK),
    ],
)
def test_latency_columns_give_the_context(tmp_path: Path, flags: str, context: Context) -> None:
    """An NMI taken for a task's event would join two contexts into one."""
    path = tmp_path / "trace"
    path.write_text(visit(0, 10, 1, flags))
    events = np.concatenate(list(open_file(path).batches()))
    assert set(events["ctx"][events["kind"] < Kind.LOSS].tolist()) == {context}


@pytest.mark.parametrize(
    ("marker", "cpu", "count"),
    [
        ("CPU:1 [LOST 23 EVENTS]\n", 1, 23),
        ("CPU:0 [LOST EVENTS]\n", 0, 0),
        ("CPU:1 [7 EVENTS DROPPED]\n", 1, 7),
        ("CPU:1 [EVENTS DROPPED]\n", 1, 0),
    ],
)
def test_lost_events_in_text_are_losses_in_place(
    tmp_path: Path, marker: str, cpu: int, count: int
) -> None:
    """What the text says was lost may have been the invalidation."""
    path = tmp_path / "trace"
    path.write_text(visit(0, 100, 1) + visit(1, 200, 2) + marker + visit(cpu, 300, 3))
    _, events = judged(path)
    (loss,) = losses(events, Cause.OVERRUN)
    assert (loss["cpu"], loss["size"]) == (cpu, count)
    assert loss["ts"] == 300_000
    assert loss["addr"] == (206_000 if cpu else 106_000)


def test_loss_at_the_end_and_overwritten_begin_are_losses(tmp_path: Path) -> None:
    """A loss with no event after it, or before the first one, would be forgotten."""
    path = tmp_path / "trace"
    path.write_text(HEAD.format(8, 50) + visit(0, 100, 1) + visit(1, 200, 2))
    _, events = judged(path)
    assert losses(events, Cause.OVERRUN)["cpu"].tolist() == [0, 1]
    path.write_text(visit(0, 100, 1) + "CPU:0 [LOST 5 EVENTS]\n")
    _, events = judged(path)
    assert losses(events, Cause.OVERRUN)["size"].tolist() == [5]


def test_perf_lost_record_touches_every_cpu(tmp_path: Path) -> None:
    """perf does not always say which CPU lost something."""
    path = tmp_path / "perf.txt"
    body = "".join(
        f"  swapper  0 [{cpu:03}]  {t}.000000: p:ghes_ioremap_pfn_irq: (ffffffff81000000) pfn=1\n"
        f"  swapper  0 [{cpu:03}]  {t}.000009: p:ghes_iounmap_irq: (ffffffff81000) vaddr=0x1000\n"
        for t, cpu in ((1, 0), (2, 1), (4, 0), (5, 1))
    )
    lines = body.splitlines(keepends=True)
    lines.insert(4, "  swapper  0 [000]  3.000000: PERF_RECORD_LOST lost 9\n")
    path.write_text("".join(lines))
    _, events = judged(path)
    assert sorted(losses(events, Cause.OVERRUN)["cpu"].tolist()) == [0, 1]


def test_unreadable_argument_is_a_loss_of_that_event(text: Path) -> None:
    """ "(fault)" read as 0 would be another frame, or none."""
    text.write_text(race().replace("pfn=258", "pfn=(fault)"))
    _, events = judged(text)
    assert losses(events, Cause.OVERRUN)["size"].tolist() == [1]
    assert int((events["kind"] == Kind.MAP).sum()) == 5


def test_cut_text_is_truncated(text: Path) -> None:
    """The cut line's argument may be cut too: 0x1000 of 0x10000."""
    text.write_text(race()[:-4])
    report, events = judged(text)
    assert report.truncated
    assert report.events == 23
    assert len(losses(events, Cause.TRUNCATED)) == 1


def test_chunks_do_not_change_the_events(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text would be judged otherwise than a short one."""
    marker = "CPU:1 [LOST 2 EVENTS]\n"
    text.write_text(race() + marker + race(2000).replace("[000] d.h1.  1.", "[000] d.h1.  2."))
    _, expected = judged(text)
    monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", 150)
    _, got = judged(text)
    for cpu in (0, 1):
        a, b = (e[(e["cpu"] == cpu) & (e["kind"] != Kind.MARK)] for e in (expected, got))
        a, b = (e[e["aux"] != Cause.CLOCK] for e in (a, b))
        assert np.array_equal(a, b)


def test_text_pages_hold_what_was_put_in() -> None:
    """Stamps that go back (an NMI inside a clock read) and big numbers must survive."""
    rng = np.random.default_rng(1)
    n = 1000
    ts = np.sort(rng.integers(0, 1 << 58, n))
    ts[500], ts[501] = ts[501], ts[500]
    lost = np.zeros(n, np.int64)
    lost[[0, 300, 301]] = (UNCOUNTED, 1 << 40, 7)
    values = rng.integers(0, 1 << 63, (n, 10)).astype(np.uint64)
    zero = np.zeros(n, np.int64)
    made = pages(Columns(zero, ts, zero + 77, zero + 0x40, zero + 9, lost, values))
    records = decode(made[0], LAYOUT)
    assert records.ts.tolist() == ts.tolist()
    assert records.missed[records.missed != 0].tolist() == [UNCOUNTED, 1 << 40, 7]
    form = text_format("x", 9, [f"v{i}" for i in range(10)]).fields
    everything = np.arange(n)
    for i in range(10):
        assert np.array_equal(records.column(form[f"v{i}"], everything), values[:, i])
    assert set(records.column(form["common_pid"], everything).tolist()) == {77}


# -- the map file ------------------------------------------------------------------------

MAP = """\
[[event]]
event = "z/in"
kind = "map"
fields = { pfn = "a" }
end = { event = "z/back", fields = { addr = "b" } }
[[event]]
event = "z/out"
kind = "unmap"
implies = ["page-after-clear"]
"""


def foreign_visit(cpu: int, us: int, pfn: int, address: int) -> str:
    texts = (f"in: (0) a={pfn}", f"back: (0 <- 0) b={address:#x}", "out: (0) c=1")
    return "".join(line(cpu, us + 2 * n, t) for n, t in enumerate(texts))


def test_return_event_delivers_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that knows only its frame, and an unmap that knows nothing, could not be judged;
    the chunk may end between the map and its return."""
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    body = "".join(
        foreign_visit(n % 2, 1000 * (n + 1), 0x100 + n, 0xFFFFC90000000000 + 0x1000 * (n // 4))
        for n in range(8)
    )
    path.write_text(body)
    given.write_text(MAP)
    for chunk in (1 << 20, 130):
        monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", chunk)
        report, events = judged(path, given)
        assert [slot.episodes for slot in report.slots] == [4, 4], chunk
        assert report.verdict is Verdict.OBSERVED
        assert not (events["kind"] == Kind.LOSS).any()
    with pytest.raises(InputError, match="--map"):
        open_file(path)


def test_map_without_its_return_is_a_loss(tmp_path: Path) -> None:
    """A map whose slot nothing tells would vanish."""
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    given.write_text(MAP)
    first = foreign_visit(0, 1000, 1, 0xFFFFC90000000000)
    path.write_text(
        first + line(0, 2000, "in: (0) a=2") + foreign_visit(0, 3000, 3, 0xFFFFC90000000000)
    )
    _, events = judged(path, given)
    assert losses(events, Cause.MISSED)["ts"].tolist() == [2_000_000]
    assert int((events["kind"] == Kind.MAP).sum()) == 2


@pytest.mark.parametrize(
    ("text_of_map", "message"),
    [
        ("x = 1", "unknown key 'x'"),
        ("[[event]]\nevent='a/b'\nkind='mop'", "kind 'mop' is not one of map"),
        ("[[event]]\nevent='a/b'\nkind='episode'", "kind 'episode' is not one of map"),
        ("[[event]]\nevent='a/b'\nkind='map'", "a map needs the fields phys or pfn"),
        ("[[event]]\nkind='map'", "event must be a string"),
        ("[[event]]\nevent='a/b'\nkind='read'\nfields={adr='x'}", "'adr' is not one of"),
        ("[[slot]]\nname='a'\naddress=5", "not the begin of a page"),
        ("[[slot]]\nname='a'\n[[slot]]\nname='a'", "the same name"),
        ("arch = 'vax'", "not one of x86_64"),
        ("event = 3", "must be a list of tables"),
        ("= nonsense", "TOML"),
    ],
)
def test_wrong_map_file_says_what_and_where(
    text: Path, tmp_path: Path, text_of_map: str, message: str
) -> None:
    """A misspelt map that is ignored gives a verdict about nothing."""
    given = tmp_path / "map.toml"
    given.write_text(text_of_map)
    with pytest.raises(InputError, match=message) as caught:
        open_file(text, given)
    assert "map.toml" in str(caught.value)


def test_map_field_that_the_event_has_not_is_an_error(text: Path, tmp_path: Path) -> None:
    """It would be read as 0."""
    given = tmp_path / "map.toml"
    given.write_text("[[event]]\nevent='m'\nkind='map'\nslot='s'\nfields={pfn='frame'}")
    with pytest.raises(InputError, match="'frame', which it does not have"):
        open_file(text, given)


def test_map_file_with_a_capture_is_refused(tmp_path: Path) -> None:
    """It would be ignored silently."""
    capture = tmp_path / "a.arrows"
    capture.write_bytes(b"\xff\xff\xff\xff\x00\x00\x00\x00")
    with pytest.raises(UsageError, match="needs no map"):
        open_file(capture, tmp_path / "map.toml")


# -- anything else -----------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"hello\n", b"[core]\n\tbare = 1\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no trace must not be judged, let alone be clean."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_file(path)
    assert cli.main(["check", str(path)]) == 2


def test_text_without_contexts_says_so(tmp_path: Path) -> None:
    """trace-cmd report prints no context by default: a reader must know what that costs."""
    path = tmp_path / "report.txt"
    path.write_text(visit(0, 10, 1, flags="").replace("]  ", "] "))
    unseen = [u.what for u in open_file(path).plan.unseen]
    assert any(what.startswith("contexts") for what in unseen)


@pytest.mark.parametrize("name", fuzz.FILES + fuzz.CAPTURES)
def test_mutated_files_give_typed_errors_only(name: str, tmp_path: Path) -> None:
    """Traces come from strangers: no traceback, no hang."""
    outcomes, slowest = fuzz.run_files(name, 60, seed=0, folder=tmp_path)
    assert sum(outcomes.values()) == 60
    assert slowest < 1


def test_mutated_map_files_give_typed_errors_only() -> None:
    """So do map files."""
    assert fuzz.run_maps(500, seed=0)[0].keys() == {"read", "InputError"}


def test_damaged_records_give_typed_errors_only() -> None:
    """So do captures that are packed well and say nonsense."""
    outcomes, slowest = fuzz.run_records(200, seed=0)
    assert sum(outcomes.values()) == 200
    assert len(outcomes) > 2
    assert slowest < 1


def test_known_events_in_a_second_buffer_are_never_clean(tmp_path: Path) -> None:
    """Half of the story would be judged as if it were the whole."""
    made = bytearray((CORPUS / "v6.dat").read_bytes())
    first, second = (at for at in range(len(made)) if made.startswith(b"flyrecord\0", at))
    made[first + 10 : first + 26] = made[second + 10 : second + 26]
    path = tmp_path / "two.dat"
    path.write_bytes(made)
    source = open_file(path)
    assert "other buffers" in source.plan.not_checked["stale"]
    report, _ = judged(path)
    assert any(reason.startswith("not-checked") for reason in report.reasons)


def test_zlib_and_zstd_parts_are_expanded_and_checked() -> None:
    """A part that is shorter or longer than it claims would shift everything behind it."""
    data = b"header_page\0" * 50
    packed = {"zlib": zlib.compress(data), "zstd": pa.Codec("zstd").compress(data, asbytes=True)}
    for how, body in packed.items():
        assert expand(body, len(data), how, Path("x"), 1 << 20) == data
        for size in (len(data) - 1, len(data) + 1, 1 << 21):
            with pytest.raises(InputError):
                expand(body, size, how, Path("x"), 1 << 20)


def test_perf_script_with_a_map_is_judged(tmp_path: Path) -> None:
    """perf prints no symbols: without --map nothing is known, with it all is."""
    path, given = CORPUS / "perf-script.txt", tmp_path / "map.toml"
    given.write_text(fuzz.PERF_MAP)
    with pytest.raises(InputError, match="no event in it maps"):
        open_file(path)
    report, events = judged(path, given)
    kinds = events["kind"].tolist()
    text = path.read_text()
    assert kinds.count(Kind.MAP) + kinds.count(Kind.UNMAP) == text.count("other:setfix:")
    assert kinds.count(Kind.INV_PAGE) == text.count("other:flush1k:")
    assert [(slot.name, slot.address) for slot in report.slots] == [
        ("fixmap-644", 0xFFFFFFFFFF57B000)
    ]
    first = events[(events["kind"] == Kind.MAP) & (events["cpu"] == 1)][0]
    assert (first["ts"], first["phys"]) == (438_944_560_630, 0x10004000)


def test_json_of_a_foreign_trace_follows_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts that read the JSON of captures must be able to read this one."""
    assert cli.main(["check", "--format", "json", str(CORPUS / "v7-zstd.dat")]) == 1
    schema = json.loads(resources.files("ghesrace").joinpath("check.schema.json").read_text())
    jsonschema.validate(json.loads(capsys.readouterr().out), schema)


def edited(cpu: int, us: int, begin: int, inside: str, end: bool = True) -> str:
    """A vunmap of one page at *begin*, with *inside* in its midst."""
    entry = f"e: (__vunmap_range_noflush+0x0/0x2e0) start={begin:#x} end={begin + 4096:#x}"
    back = "x: (vunmap_range+0x2c/0x40 <- __vunmap_range_noflush)"
    made = line(cpu, us, entry, "....") + inside
    return made + line(cpu, us + 40, back, "....") if end else made


@pytest.mark.parametrize("end", [True, False])
def test_edits_are_recognised_by_their_symbol(tmp_path: Path, end: bool) -> None:
    """A torn edit in somebody else's trace would go unseen; without its end it is less sure."""
    slot = 0xFFFFC900FFC90000
    trace = race() + edited(0, 1_010_000, slot, visit(0, 1_010_010, 0x100), end)
    path = tmp_path / "trace"
    path.write_text(HEAD.format(30, 30) + trace)
    report, events = judged(path)
    assert (events["kind"] == Kind.EDIT).sum() == 1
    result = report.patterns["torn_edit"]
    assert result.checked
    # Its map and its unmap.
    assert (result.observed, result.predicted) == ((2, 0) if end else (0, 2))
    told = any("end of page-table edits" in unseen.what for unseen in report.unseen)
    assert told is not end
    assert not report.patterns["shootdown"].checked


def test_unfiltered_ipis_are_no_shootdowns_unless_a_map_says_so(tmp_path: Path) -> None:
    """Each IPI of the system would be a hazard; or a map file could not name one that is."""
    ipi = "i: (smp_call_function_many_cond+0x0/0x300) func=0xffffffff81078050 wait=1"
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    path.write_text(HEAD.format(25, 25) + race() + line(0, 1_010_000, ipi))
    report, events = judged(path)
    assert not (events["kind"] == Kind.SHOOTDOWN).any()
    assert not report.patterns["shootdown"].checked
    assert any("callbacks" in u.why and u.patterns == ("shootdown",) for u in report.unseen)
    given.write_text('[[event]]\nevent = "i"\nkind = "shootdown"\n')
    report, _ = judged(path, given)
    result = report.patterns["shootdown"]
    assert (result.checked, result.observed, result.predicted) == (True, 0, 1)

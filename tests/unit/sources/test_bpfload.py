"""What can be known of loading without a kernel that takes BPF."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ghesrace.btf import Btf
from ghesrace.errors import HostError
from ghesrace.kallsyms import read_addresses
from ghesrace.sources.bpfchild import MAPS, Program, Request
from ghesrace.sources.bpfload import _MAGIC, _refusal, preempt_count
from tests.unit import trees


def test_the_preempt_count_is_found_by_feature():
    """If this fails, every event is in the wrong context: an NMI looks like a task."""
    text, variables = preempt_count("x86_64", Btf(trees.x86_bpf_btf()))
    assert text == f"*(u32 *)(this_cpu_ptr((void *){_MAGIC:#x}ULL) + 0)"
    [(magic, number)] = variables.items()
    assert (magic, number) == (_MAGIC, Btf(trees.x86_bpf_btf()).variable("__preempt_count"))
    hot = trees.btf({}, {"pcpu_hot": {"current": 0, "preempt_count": 8}}, {}, ("pcpu_hot",))
    assert preempt_count("x86_64", Btf(hot))[0].endswith("+ 8)")
    wide = trees.btf({}, {}, {}, ("__preempt_count", "local_interrupt_disable_state"))
    assert preempt_count("x86_64", Btf(wide))[0].startswith("narrow(*(u32 *)(this_cpu_ptr(")
    task = {"task_struct": {"thread_info": 4}, "thread_info": {"flags": 0, "preempt_count": 16}}
    assert preempt_count("arm64", Btf(trees.btf({}, task))) == (
        "*(u32 *)(current_task() + 20)",
        {},
    )
    with pytest.raises(HostError, match="preempt count"):
        preempt_count("x86_64", Btf(trees.btf()))


def test_the_preempt_count_without_helpers(tmp_path: Path):
    """If this fails, programs on 5.4 and 5.10 call helpers that are missing, or read another
    variable, or the wide layout as the other."""
    (tmp_path / "kallsyms").write_text(
        "000000000001f7d0 A __preempt_count\n"
        "ffffffff82a00000 r __per_cpu_offset_other\n"
        "ffffffff82b00000 R __per_cpu_offset\n"
    )
    wanted = {"__preempt_count", "__per_cpu_offset", "pcpu_hot"}
    addresses = read_addresses(tmp_path / "kallsyms", wanted)
    assert addresses == {"__preempt_count": 0x1F7D0, "__per_cpu_offset": 0xFFFFFFFF82B00000}
    text = "(u32)memory(memory(0xffffffff82b00000ULL + 8 * me) + 0x1f7d0ULL)"
    btf = Btf(trees.x86_bpf_btf())
    assert preempt_count("x86_64", btf, addresses) == (text, {})
    wide = Btf(trees.btf({}, {}, {}, ("__preempt_count", "local_interrupt_disable_state")))
    known = {**addresses, "local_interrupt_disable_state": 8}
    for kernel, where in ((btf, {}), (wide, addresses), (btf, known)):
        with pytest.raises(HostError, match="kallsyms does not say"):
            preempt_count("x86_64", kernel, where)
    task = {"task_struct": {"thread_info": 4}, "thread_info": {"flags": 0, "preempt_count": 16}}
    assert preempt_count("arm64", Btf(trees.btf({}, task)), {}) == (
        "(u32)memory(bpf_get_current_task() + 20)",
        {},
    )
    (tmp_path / "kallsyms").write_text("0000000000000000 A __preempt_count\n")
    assert read_addresses(tmp_path / "kallsyms", wanted) == {}


def test_a_request_survives_the_way_to_the_child():
    """If this fails, the child compiles something else."""
    program = Program("p0", "tracing", "fentry", "ghes_proc")
    request = Request("int x;", (program,), {_MAGIC: 3}, 1, MAPS)
    assert Request.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("answer", "log", "words"),
    [
        ({"error": "bcc", "what": "No module"}, "", "python3-bpfcc"),
        ({"error": "compile", "what": "x"}, "Unable to find kernel headers.", "linux-headers-6.1"),
        ({"error": "compile", "what": "x"}, "main.c:1: error: bad", "main.c:1: error: bad"),
        ({"error": "load", "what": "Operation not permitted"}, "", "CAP_BPF"),
        ({"error": "load", "what": "fentry on f: Invalid"}, "R1 is bad", "R1 is bad"),
        (
            {"error": "attach", "what": "kprobe on event 3: Permission denied"},
            "",
            "kernel.perf_event_paranoid=2",
        ),
        ({"error": "attach", "what": "fentry on f: Permission denied"}, "", "can't attach"),
        ({"error": "attach", "what": "fentry on f: Busy"}, "", "can't attach"),
        (None, "Killed", "died: Killed"),
    ],
)
def test_refusals_name_the_remedy(answer: dict[str, str] | None, log: str, words: str):
    """If this fails, a user is told that something failed, and not what to install."""
    data = json.dumps(answer).encode() if answer else b""
    error = _refusal(data, log, "6.1")
    assert isinstance(error, HostError)
    assert words in str(error)
    assert "ftrace" in str(error)

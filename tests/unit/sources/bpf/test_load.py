# SPDX-License-Identifier: Apache-2.0
"""What can be known of loading without a kernel that takes BPF."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.host.btf import Btf
from ghesrace.host.kallsyms import find_addresses
from ghesrace.sources.bpf.compile import Refused
from ghesrace.sources.bpf.load import _MAGIC, find_preempt_count, preempt_count, refusal
from tests.build import trees


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
    addresses = find_addresses((tmp_path / "kallsyms").read_bytes(), wanted)
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
    wide_task = trees.btf({}, task, {}, ("local_interrupt_disable_state",))
    assert preempt_count("arm64", Btf(wide_task), {})[0].startswith("narrow((u32)memory(")
    (tmp_path / "kallsyms").write_text("0000000000000000 A __preempt_count\n")
    assert find_addresses((tmp_path / "kallsyms").read_bytes(), wanted) == {}


@pytest.mark.parametrize(
    ("kallsyms", "begin"),
    [
        ("ffff800010000000 T bpf_get_current_task_btf\n", "*(u32 *)(current_task()"),
        ("0000000000000000 T bpf_get_current_task_btf\n", "*(u32 *)(current_task()"),
        ("ffff800010000000 T bpf_get_current_task\n", "(u32)memory(bpf_get_current_task()"),
        (None, "*(u32 *)(current_task()"),
    ],
)
def test_helpers_are_found_by_their_functions(tmp_path: Path, kallsyms: str | None, begin: str):
    """If this fails, Debian's 5.10 on arm64 refuses every program for a helper that it lacks."""
    if kallsyms is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/kallsyms").write_text(kallsyms)
    task = {"task_struct": {"thread_info": 4}, "thread_info": {"flags": 0, "preempt_count": 16}}
    text, variables = find_preempt_count("arm64", "mapped", Btf(trees.btf({}, task)), tmp_path)
    assert text.startswith(begin)
    assert variables == {}


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (Refused("bcc", "No module"), "python3-bpfcc"),
        (Refused("compile", "x", "Unable to find kernel headers."), "linux-headers-6.1"),
        (Refused("compile", "x", "main.c:1: error: bad"), "main.c:1: error: bad"),
        (Refused("load", "Operation not permitted"), "CAP_BPF"),
        (Refused("load", "fentry on f: Invalid", "R1 is bad"), "R1 is bad"),
        (
            Refused("attach", "kprobe on event 3: Permission denied"),
            "kernel.perf_event_paranoid=2",
        ),
        (Refused("attach", "fentry on f: Permission denied"), "can't attach"),
        (Refused("attach", "fentry on f: Busy"), "can't attach"),
        (Refused("compiler", "the process that compiles BPF died", "Killed"), "died: Killed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.stage,
)
def test_refusals_name_the_remedy(refused: Refused, words: str):
    """If this fails, a user is told that something failed, and not what to install."""
    error = refusal(refused, "6.1")
    assert isinstance(error, HostError)
    assert words in str(error)
    assert "ftrace" in str(error)

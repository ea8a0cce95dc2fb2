# SPDX-License-Identifier: Apache-2.0
"""Symbols, and which of them can be traced."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host import kallsyms


def test_symbols_with_suffixes_and_modules(tmp_path: Path):
    """A name would be found inside a longer one, or its module or suffix be lost."""
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000010 T flush_tlb_all\n"
        "ffffffff81000020 t __flush_tlb_all\n"
        "ffffffff81000030 t flush_tlb_all_nodes\n"
        "ffffffff81000040 t ghes_proc.isra.0\n"
        "ffffffff81000050 t ghes_proc.isra.0.cold\n"
        "ffffffff81000058 t ghes_proc.cold.12\n"
        "ffffffff81000060 d flush_tlb_all\n"
        "ffffffffc0000070 t ghes_proc\t[ghes2015]\n"
        "rubbish\n"
        "xyz t flush_tlb_all\n"
        "ffffffff81000080 W flush_tlb_all"
    )
    found = kallsyms.read_symbols(path, ["flush_tlb_all", "ghes_proc", "absent"])
    assert found == {
        "flush_tlb_all": (
            kallsyms.Symbol("flush_tlb_all", 0xFFFFFFFF81000010, ""),
            kallsyms.Symbol("flush_tlb_all", 0xFFFFFFFF81000080, ""),
        ),
        "ghes_proc": (
            kallsyms.Symbol("ghes_proc.isra.0", 0xFFFFFFFF81000040, ""),
            kallsyms.Symbol("ghes_proc", 0xFFFFFFFFC0000070, "ghes2015"),
        ),
    }
    assert [s.place for s in found["ghes_proc"]] == ["ghes_proc.isra.0", "ghes2015:ghes_proc"]


def test_traceable_functions(tmp_path: Path):
    """A module's function would vouch for vmlinux's of the same name."""
    path = tmp_path / "available_filter_functions"
    path.write_text("a_ghes_proc\nghes_proc [m]\nghes_proc.isra.0\nghes_procs\n")
    assert kallsyms.read_traceable(path, ["ghes_proc"]) == {
        ("m", "ghes_proc"),
        ("", "ghes_proc.isra.0"),
    }


def test_one_search_finds_what_a_search_for_each_name_does(tmp_path: Path) -> None:
    """If this fails, a name that begins as another does, or stands beside it, hides that one."""
    path = tmp_path / "kallsyms"
    path.write_text(
        "0000000000000001 t ghes_p\n"
        "0000000000000002 t ghes_proc.part.0\n"
        "0000000000000003 t ghes_proc_in_irq\n"
        "0000000000000004 d ghes_p\n"
        "0000000000000005 t ghes_proc_in_irq [ghes_p]\n"
        "0000000000000006 t xghes_p\n"
        "0000000000000007 t ghes_p.cold"
    )
    names = ["ghes_proc_in_irq", "ghes_p", "ghes_proc", "ghes_p"]
    found = kallsyms.read_symbols(path, names)
    assert list(found) == sorted(set(names))
    assert {name: [s.address for s in symbols] for name, symbols in found.items()} == {
        "ghes_p": [1],
        "ghes_proc": [2],
        "ghes_proc_in_irq": [3, 5],
    }
    each = {name: kallsyms.read_symbols(path, [name])[name] for name in names}
    assert found == each
    assert kallsyms.read_symbols(path, []) == {}
    assert kallsyms.find_addresses(path.read_bytes(), ["ghes_p", "xghes_p"]) == {
        "ghes_p": 4,
        "xghes_p": 6,
    }

# SPDX-License-Identifier: Apache-2.0
"""Cut what a plan needs to know of one kernel from its own files to a few kilobytes of JSON.

`cut` takes what the kernel itself says in a tree of its files (/proc/kallsyms, tracefs, BTF), and
the code that planning reads from a /proc/kcore there, which `lab.facts` makes of its image.
`plant` writes such a tree again, so the code that reads a live kernel's files reads it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ghesrace.errors import InputError
from ghesrace.host.btf import Btf
from ghesrace.host.code import Kcore
from ghesrace.host.facts import wanted_symbols, wanted_tracepoints
from ghesrace.planning.mechanism import STRUCT_ARGS
from ghesrace.points import families

from .btfwriter import btf
from .corefile import core

TRACEFS = "sys/kernel/tracing"
EVENT_IDS = "event-ids"  # `PATH/SYSTEM/EVENT/id:NUMBER`, as grep prints it; ours, not the kernel's
TRACEFS_NAMES = "tracefs-names"
# A cut also keeps symbols that the probe files might ask for tomorrow: those that match this.
# It leaves out paddings and halves of functions, and what tracepoints generate. Of a symbol that
# was not asked for, nobody can tell later whether the kernel has it (see `unasked`).
AROUND = (
    r"(?!__pfx_|__SC[KT]__|__\w*trace|__probestub|perf_trace|trace_|event_|print_fmt|\S*\.cold)"
    r"\S*((\b|_)ghes_|apei|sdei|set_fixmap|clear_fixmap|set_pte_vaddr|flush_tlb|tlb_flush|vunmap"
    r"|vmap_|kernel_range|ioremap|iounmap|memcpy_(from|to)io|smp_call_function|nmi_handle|do_sea)\S*"
)
WIDTH = 120
_README = re.compile(r"probe|\$|<arg")
_CODE = re.compile(r"^[0-9a-f]+ [tTwW] (\S+)", re.MULTILINE)


def asked() -> dict[str, Any]:
    """Return the names that a cut holds if the kernel has them, by kind.

    `around` is a regular expression for more symbols; `structs` is {struct: members}.

    >>> "ghes_copy_tofrom_phys" in asked()["symbols"]
    True
    """
    loaded = families()
    structs = {STRUCT_ARGS[0]: [STRUCT_ARGS[1]]}
    for candidate in (c for f in loaded for p in f.points for c in p.candidates):
        struct, _, member = candidate.member.partition(".")
        for name, members in ((candidate.struct, candidate.struct_default), (struct, [member])):
            structs.setdefault(name, []).extend(members)
    for rule in (rule for family in loaded for rule in family.contexts):
        structs.setdefault(rule.variable, []).append(rule.member)
        for owner, member in zip(("task_struct", *rule.task), rule.task, strict=False):
            structs.setdefault(owner, []).append(member)
    variables = {
        name
        for family in loaded
        for rule in family.contexts
        for name in (rule.variable, rule.wide_with)
    }
    return {
        "around": AROUND,
        "symbols": sorted(wanted_symbols() - {""}),
        "tracepoints": sorted(set(wanted_tracepoints())),
        "enums": sorted({rule.enum for family in loaded for rule in family.slots} - {""}),
        "structs": {
            name: sorted(set(members) - {""}) for name, members in sorted(structs.items()) if name
        },
        "variables": sorted(variables - {""}),
    }


def unasked(kernel: Mapping[str, Any]) -> list[str]:
    """Return the names in today's probe files that *kernel*, cut earlier, was not asked for.

    A list that is not empty means that the kernel must be cut again (`python -m lab.facts`). What
    an implication must lie `behind` may be missing: the implication is believed then.
    """
    then, now = kernel["asked"], asked()
    candidates = [c for f in families() for p in f.points for c in p.candidates]
    optional = {implication.behind for c in candidates for implication in c.implies}
    around = re.compile(then["around"])
    missing = [
        name
        for name in now["symbols"]
        if name not in {*then["symbols"], *optional} and not around.fullmatch(name)
    ]
    for kind in ("tracepoints", "enums", "variables"):
        missing += [name for name in now[kind] if name not in then[kind]]
    for struct, members in now["structs"].items():
        missing += [f"{struct}.{m}" for m in members if m not in then["structs"].get(struct, ())]
    return missing


def cut(tree: Path, arch: str, package: str) -> dict[str, Any]:
    """Return the facts of the kernel whose files are below *tree*, ready for JSON.

    *arch* is "x86_64" or "arm64"; *package* says where the kernel came from. Raises OSError if a
    file is missing, InputError if the BTF can't be read.

        save(cut(tree, "arm64", "linux-image-6.1.0-9-arm64 6.1.27-1"), Path("6.1.0-9-arm64.json"))
    """
    want = asked()
    exact = "|".join(map(re.escape, want["symbols"]))
    named = re.compile(rf"(?:{exact})(?:\.\S*)?|{AROUND}")

    def lines(name: str, column: int) -> list[str]:
        """Return the lines of a file that have a wanted name in their *column* (from 0)."""
        found = []
        for line in (tree / name).read_text("ascii", "replace").splitlines():
            fields = line.split()
            if len(fields) > column and "[" not in line and named.fullmatch(fields[column]):
                found.append(line.replace("\t", " "))
        return found

    kallsyms = [line for line in lines("proc/kallsyms", 2) if _CODE.match(line)]
    plain = {line.split()[2].partition(".")[0] for line in kallsyms}
    return {
        "release": (tree / "proc/sys/kernel/osrelease").read_text().strip(),
        "arch": arch,
        "package": package,
        "version": (tree / "proc/version").read_text().partition("#")[2].strip(),
        "asked": want,
        "kallsyms": kallsyms,
        "available_filter_functions": lines(f"{TRACEFS}/available_filter_functions", 0),
        "kprobes_blacklist": lines("sys/kernel/debug/kprobes/blacklist", 1),
        "tracefs": sorted(
            {"kprobe_events", "dynamic_events", "instances"}
            & set((tree / TRACEFS_NAMES).read_text().split())
        ),
        "trace_clock": (tree / TRACEFS / "trace_clock").read_text().strip(),
        "README": [
            line
            for line in (tree / TRACEFS / "README").read_text("ascii", "replace").splitlines()
            if _README.search(line)
        ],
        "tracepoints": _ids((tree / EVENT_IDS).read_text(), want["tracepoints"]),
        "btf": _types(tree / "sys/kernel/btf/vmlinux", want, plain),
        "code": _code(tree / "proc/kcore"),
    }


def _code(path: Path) -> dict[str, str]:
    """Return what a core file, if there is one, holds: hexadecimal bytes by address."""
    blocks = Kcore(path).blocks() if path.exists() else {}
    return {f"{address:016x}": block.hex() for address, block in blocks.items()}


def blocks(kernel: Mapping[str, Any]) -> dict[int, bytes]:
    """Return the code of *kernel* by address, of which `plant` makes its /proc/kcore.

    >>> blocks({"code": {"ffffffff81000000": "c3cc"}})
    {18446744071578845184: b'\\xc3\\xcc'}
    """
    return {int(at, 16): bytes.fromhex(code) for at, code in kernel["code"].items()}


def _ids(text: str, names: Sequence[str]) -> dict[str, int]:
    found = re.findall(r"([^/\n]+)/([^/\n]+)/id:(\d+)$", text, re.MULTILINE)
    ids = {f"{system}:{event}": int(number) for system, event, number in found}
    return {name: ids[name] for name in names if name in ids}


def _types(path: Path, want: Mapping[str, Any], functions: Iterable[str]) -> dict[str, Any] | None:
    """Return the wanted types that the BTF at *path* has; None for a kernel without BTF."""
    if not path.exists() or not path.stat().st_size:
        return None
    types = Btf.read(path)
    prototypes = {}
    for name in sorted(functions):
        if prototype := types.function(name):
            marks = ("" if s else "&" if v else "*" for s, v in _kinds(prototype))
            prototypes[name] = [m + p for m, p in zip(marks, prototype.parameters, strict=True)]
    structs = {name: types.offsets(name) for name in want["structs"]}
    return {
        "enums": {name: types.enum(name) for name in want["enums"]},
        # Small structs keep all members; a large one, as task_struct, only those asked for.
        "structs": {
            name: {
                m: at for m, at in found.items() if len(found) < 32 or m in want["structs"][name]
            }
            for name, found in structs.items()
            if found
        },
        "functions": prototypes,
        "variables": [name for name in want["variables"] if types.variable(name) is not None],
    }


def _kinds(prototype: Any) -> Iterable[tuple[bool, bool]]:
    return zip(prototype.scalar, prototype.struct, strict=True)


def plant(kernel: Mapping[str, Any], root: Path) -> Path:
    """Write the files of *kernel* below *root*, as its own /proc and /sys have them.

    Returns *root*. proc/sys/kernel/arch is written for any kernel, though kernels before 6.1 tell
    their architecture only through uname(2).

        facts = read_facts(plant(load(Path("6.1.0-9-arm64.json")), tmp_path))
    """
    files: dict[str, str | bytes] = {
        "proc/kallsyms": _text(kernel["kallsyms"]),
        "proc/sys/kernel/osrelease": kernel["release"] + "\n",
        "proc/sys/kernel/arch": {"arm64": "aarch64"}.get(kernel["arch"], kernel["arch"]) + "\n",
        f"{TRACEFS}/available_filter_functions": _text(kernel["available_filter_functions"]),
        "sys/kernel/debug/kprobes/blacklist": _text(kernel["kprobes_blacklist"]),
        f"{TRACEFS}/trace_clock": kernel["trace_clock"] + "\n",
        f"{TRACEFS}/README": _text(kernel["README"]),
    }
    for name in kernel["tracefs"]:
        files[f"{TRACEFS}/{name}" + ("/.keep" if name == "instances" else "")] = ""
    for name, number in kernel["tracepoints"].items():
        files[f"{TRACEFS}/events/{name.replace(':', '/')}/id"] = f"{number}\n"
    if kernel["code"]:
        files["proc/kcore"] = core(blocks(kernel))
    if kernel["btf"] is not None:
        files["sys/kernel/btf/vmlinux"] = btf(**kernel["btf"])
    return write_files(root, files)


def write_files(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write *files*, each under its path below *root*, with the folders that they need.

    Returns *root*. A file that is there already is written anew.

        write_files(root, {"proc/sys/kernel/osrelease": "6.1.0-test\\n"})
    """
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote. Raises OSError, or InputError if *path* is no kernel file."""
    try:
        kernel: dict[str, Any] = json.loads(path.read_text())
        return {**kernel, "asked": dict(kernel["asked"]), "code": dict(kernel["code"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no kernel file: {error!r}", "take it again") from error


def save(kernel: Mapping[str, Any], path: Path) -> None:
    """Write *kernel* as JSON with one fact a line, so that people and diffs can read it."""
    path.write_text(_json(kernel, "") + "\n")


def _json(value: Any, indent: str) -> str:
    """Return *value* as JSON; what does not fit on a line of WIDTH columns is broken up."""
    text = json.dumps(value)
    if len(text) < WIDTH or not isinstance(value, dict | list):
        return text
    deeper = indent + " "
    if isinstance(value, list):
        return "[\n" + ",\n".join(deeper + _json(item, deeper) for item in value) + f"\n{indent}]"
    items = (f"{deeper}{json.dumps(name)}: {_json(item, deeper)}" for name, item in value.items())
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"

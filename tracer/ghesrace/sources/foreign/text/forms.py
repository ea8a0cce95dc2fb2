# SPDX-License-Identifier: Apache-2.0
"""This module knows how ftrace, trace-cmd and perf print a line, and which of them a text is of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .debris import undressed
from .lines import Data, Text, behind, lines_of, pc, unix_lines

_SAMPLE = 1 << 18  # bytes of a text that are looked at first, which are enough for most heads
_PIECE = 4 << 20
MOST_OF_A_LINE = 1 << 20
_MOST_OF_A_HEAD = 1 << 16
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COMMENTS = re.compile(rb"^#.*\n", re.M)

# `trace-cmd report --ts-diff` prints a difference behind the stamp.
_TIME = r"(?P<s>\d{1,18})(?:\.(?P<f>\d{6}|\d{9}))?:\s+(?:\([+-]?\d{1,18}\)\s+)?"
_EVENT = r"(?P<event>[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?):(?P<rest>\s.*|)\n?$"
# perf's own events have modifiers: cycles:ppp:, branches/k/:.
_PERF_EVENT = r"(?P<event>[A-Za-z_][^\s:]*(?::[^\s:]+)?):(?P<rest>\s.*|)\n?$"
# With -F +misc and +tod perf prints the CPU's mode and the time of day before the stamp.
PERF_BEFORE_TIME = r"(?:[A-Z]{1,6}\s+)?(?:(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}|N/A)\s+)?"
# These letters stand before the stamp; kernel/trace/trace_output.c and trace-cmd's lib/traceevent
# print them: four before Linux 5.13, then five, and seven in kernels with lazy preemption.
_FLAGS = r"[dDbBX.][^\s:]{3,8}"
FORMS = {
    "ftrace": (
        # `trace-cmd report --raw-ts` prints no blank before a stamp of 12 digits.
        r"^.*?-(?P<pid>\d{1,9})\s+(?:\(\s*[\d-]+\)\s+)?\[(?P<cpu>\d{1,4})\]\s*"
        rf"(?:(?P<flags>{_FLAGS})\s+)?" + _TIME + _EVENT
    ),
    "latency": (
        rf"^.*?-(?P<pid>\d{{1,9}})\s+(?P<cpu>\d{{1,4}})(?P<flags>{_FLAGS})\s+" + _TIME + _EVENT
    ),
    # The trace option latency-format, and ftrace_dump_on_oops: microseconds, and a mark for delays.
    "latency-format": (
        rf"^.*?-(?P<pid>\d{{1,9}})\s+(?P<cpu>\d{{1,4}})(?P<flags>{_FLAGS})\s+"
        r"(?P<s>\d{1,15})us\s*[^\s\w:]?\s?:\s+(?P<f>)" + _EVENT
    ),
    # A task that perf no longer knows is :-1 with the process -1. With -F there may be no task, and
    # letters that say in what mode the CPU was.
    "perf": (
        r"^\s*(?:\S.*?\s)?(?:-?\d{1,9}/\s*)?(?P<pid>-1|\d{1,9})\s+\[(?P<cpu>\d{1,4})\](?P<flags>)\s+"
        + PERF_BEFORE_TIME
        + _TIME
        + r"(?:\d+\s+)?"
        + _PERF_EVENT
    ),
}
# A line with a CPU and a stamp is an event's, whatever else is in it.
STAMPED = (
    r"\[(?P<cpu>\d{1,4})\]\s*(?:[^\s\d][^\s:]{0,19}?\s*)?(?P<s>\d{1,18})\d*(?:\.(?P<f>\d{6}|\d{9}))?:(?:\s|$)"
    r"|-\d+\s+(?P<cpu2>\d{1,4})[dDbBX.]\S{3,8}\s+(?P<s2>\d{1,18})\d*"
    r"(?:\.(?P<f2>\d{6}|\d{9})|us\s*[^\s\w:]?\s?)?:(?:\s|$)"
)
# perf script can leave out the stamp or the CPU.
TIMELESS = r"\s\[(?P<cpu>\d{1,4})\]\s+[A-Za-z_][\w-]*:[A-Za-z_][\w-]*:(?:\s|$)"
CPULESS = (
    r"\s\d+\s+(?P<s>\d{1,18})\.(?P<f>\d{6}|\d{9}):\s+(?:\d+\s+)?"
    r"[A-Za-z_][\w-]*:[A-Za-z_][\w-]*:(?:\s|$)"
)
# These are no probe's: a stack, the lines of the function tracers and of those of latencies, system
# calls, what trace_printk() prints with a place in front, and perf's own records, but for losses.
HARMLESS = (
    r":\s+(?:<(?:user )?stack trace>|=> |#\d+\s|sys_\w+(?:\(| -> )|PERF_RECORD_[A-Z]"
    # bpf_trace_printk() before Linux 5.9
    r"|0?:\s"
    r"|[\w.$+/]+(?:\([^()]*\))?(?: <[0-9a-f]+>)?(?: \[\w+\])? <-\S"
    r"|(?:0x[0-9a-f]{8,16}|[\w.$]+\+0x[0-9a-f]+/0x[0-9a-f]+):\s)"
)
# A kernel that boots says so first, one that ends last, and one that dumps its buffers before each
# of them; `journalctl` says where a boot ends, and `perf script --header` where a recording begins.
BOOT = (
    r"^[>|\s]*-- (?:(?:Boot [0-9a-f]{12,32}|Reboot) --\s*$|(?:Journal begins|Logs begin) at )"
    r"|^[>|\s]*# captured on\s*: |\bDumping ftrace (?:buffer|instance)"
    r"|(?:^|[\]>]\s{0,4}|kernel: )(?:Linux version \d|Booting Linux on physical CPU"
    r"|(?:Kernel c|C)ommand line: |reboot: (?:Restarting|machine restart|Power down)"
    r"|(?:kexec\w*: )?Starting (?:new|crashdump) kernel|I'm in purgatory|EFI stub: "
    r"|U-Boot (?:SPL )?20\d\d|SeaBIOS \(version)"
)
# In a mail or a log something is in front of the head of a `trace`.
TRACER = r"^(?:[^#\n]{0,100}[>|:\]\s])?# tracer: \w"
# In what was copied from a terminal there is a prompt between what two commands printed.
_TOOLS = "cat|zcat|xzcat|head|tail|less|more|grep|perf|trace-cmd|dmesg|journalctl|ssh|adb|sudo"
_PROMPT = (
    r"^[>|\s]*\[?[A-Za-z_][\w.-]*@[\w.-]+[: ][^\n]*[#$%](?:\s|$)"
    rf"|^[>|\s]*(?:[\w.-]+)?[#$%] (?:{_TOOLS})\s"
)
# A mail, or an attachment, begins, or a file whose name alone is in the line.
_FILE = (
    r"^[>|\s]*(?:(?:From|Subject|Message-I[Dd]|Content-(?:Type|Disposition)): |On .* wrote:\s*$"
    r"|(?:[-=#*]+ )?[^\s:=()]+\.(?:txt|log|out|trace|dat|data):?(?: [-=#*]+)?\s*$)"
)
# A head stands before each run; `trace-cmd report` begins with the number of CPUs, and `tail` puts
# each file's name before what is in it. Of a head that lost its begin the columns are left.
HEAD = (
    rf"{TRACER}|^(?:[^#\n]*[>|:\]\s])?#\s+(?:TASK[-/]PID|cmd\s+pid)\s|^[>|\s]*cpus=\d+\s*$"
    rf"|^==> .* <==\s*$|{_PROMPT}|{_FILE}|{BOOT}"
)
# A terminal's last line is the prompt, which has no end.
_LAST_PROMPT = re.compile(
    rb"(?:\[?[A-Za-z_][\w.-]*@[\w.-]+[: ][^\n]*[#$%] ?|[$%] |crash> ?|\[\d+\]kdb> ?)\r?"
)
_KERNEL_HEAD = re.compile(rb"^\xef\xbb\xbf# tracer:|" + TRACER.encode(), re.M)  # behind a BOM, too
# The heads of ftrace, trace-cmd and perf say how many CPUs there are.
_CPUS = re.compile(rb"#P:(\d{1,4})\b|^[>|\s]*cpus=(\d{1,4})\s|^# nrcpus online : (\d{1,4})\s", re.M)
_BARE = re.compile(rb"[=:]\s?ffff[0-9a-f]{12}\b")
_PREFIXED = re.compile(rb"[=:]\s?0x[0-9a-fA-F]")
_JSON = re.compile(rb"\s*[\[{]\s*(?:\{\s*)?\"")
_QUOTED, _EQUALS = re.compile(rb"\w=3D\w"), re.compile(rb"\w=(?!3D|\s)")
# What `diff` prints before its lines in its three forms, and Python's ndiff below them.
_DIFF = re.compile(
    rb"^(?:@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@[^\n]*|\*\*\* \d+,\d+ \*\*\*\*"
    rb"|\d+(?:,\d+)?[acd]\d+(?:,\d+)?|\? +[-+^][-+^ ]*)$",
    re.M,
)
# The head names the columns in their order, from one line to the next.
_COLUMNS = re.compile(rb"(?:^#[^\n]*=> ?[\w/-]+[^\n]*\n)+", re.M)
_COLUMN = re.compile(rb"=> ?([\w/-]+)")


@dataclass(frozen=True, slots=True)
class Style:
    """This is what a text's begin says of how it prints. `bare` says that numbers are hexadecimal
    without 0x, as kernels before 3.14 print them. `context` is the column that has the context,
    where the head names the columns, and `columns` their number, else None. `kernel` says that the
    kernel printed it, and `cpus` of how many CPUs (0 if it does not say).

    >>> style_of(b"# tracer: nop\\n").kernel
    True
    """

    bare: bool = False
    context: int | None = None
    columns: int | None = None
    kernel: bool = False
    cpus: int = 0


def style_of(sample: bytes | bytearray) -> Style:
    """Return how the text that begins with *sample* prints.

    >>> style_of(b"f: (arch_apei_flush_tlb_one+0x0/0x10) addr=ffffc900ffc90000\\n").bare
    True
    """
    named = _COLUMNS.search(sample)
    # latency-format has the CPU in front of the flags.
    names = [name for name in _COLUMN.findall(named[0] if named else b"") if name != b"CPU"]
    return Style(
        bare=bool(_BARE.search(sample)) and not _PREFIXED.search(sample),
        context=names.index(b"hardirq/softirq") if b"hardirq/softirq" in names else None,
        columns=len(names) if b"hardirq/softirq" in names else None,
        kernel=bool(_KERNEL_HEAD.search(sample)),
        cpus=max((int(found[found.lastindex or 0]) for found in _CPUS.finditer(sample)), default=0),
    )


@dataclass(frozen=True, slots=True)
class Begin:
    """A text's begin says of which form it is (a key of FORMS, or None if no line fits any) and how
    it prints; or else why it can't be judged, as far as the lines tell."""

    form: str | None = None
    style: Style = Style()
    why_not: str | None = None


def read_begin(path: Path, skip: int = 0) -> Begin:
    """Return what the first lines in *path* that fit a form tell, however long the head before them
    is. The first *skip* lines are left out. Raises OSError.

    read_begin(Path("trace.txt")).form
    """
    why: str | None = None
    head = rest = b""
    with path.open("rb") as file:
        while data := file.read(_PIECE if rest or head or why else _SAMPLE):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            lines: Data = data[:cut]
            rest = data[cut:]
            if skip:
                lines, skip = behind(lines, skip)
            piece = undressed(unix_lines(bytes(lines)))
            if b"\r" in data and b"\n" not in data and data.isascii():
                return Begin(why_not="its lines end in CR alone: mend it with `tr '\\r' '\\n'`")
            packed = _packed(piece)
            if packed is not None:
                return Begin(why_not=packed)
            form = form_of(piece)
            if form is not None:
                return Begin(form, style_of(head + piece))
            if data.startswith(_UTF16):
                return Begin(why_not="it is UTF-16 text: make it UTF-8 with `iconv -f UTF-16`")
            why = why or why_not(piece)
            if len(rest) > MOST_OF_A_LINE or b"\0" in piece:
                return Begin(why_not=why)
            head = b"".join([head, *_COMMENTS.findall(piece)])[-_MOST_OF_A_HEAD:]
    form = form_of(rest) if rest else None  # Its only event is cut.
    if form is not None:
        return Begin(form, style_of(head + rest))
    return Begin(why_not=why or (why_not(rest) if rest else None))


def _packed(sample: bytes | bytearray) -> str | None:
    """Return in what the lines of *sample* are, where each is still to be unpacked from that, and
    how; of two texts in one, that there are two."""
    if _JSON.match(sample):
        return "its lines are JSON: unpack them first, as with `jq -r .MESSAGE`"
    if _DIFF.search(sample):
        return "it is a diff of two texts: give one of them"
    if _QUOTED.search(sample) and not _EQUALS.search(sample):
        return "it is a mail's quoted-printable text: decode it with `python3 -m quopri -d`"
    return None


def form_of(sample: bytes | bytearray) -> str | None:
    """Return the key of FORMS that fits the most lines of *sample*, or None if none fits any.

    >>> form_of(b"  bash-812   [003] d..1.  2725.104981: map: phys=0x1000\\n")
    'ftrace'
    """
    lines = lines_of(sample)
    counts = {
        form: int(pc.sum(pc.match_substring_regex(lines, pattern)).as_py() or 0)
        for form, pattern in FORMS.items()
    }
    best = max(counts, key=lambda form: counts[form])
    return best if counts[best] else None


def is_prompt(line: bytes | bytearray) -> bool:
    """Return whether *line*, which has no end, is the prompt of a shell or a debugger.

    >>> is_prompt(b"root@host:~# "), is_prompt(b"  bash-1 [000] ")
    (True, False)
    """
    return _LAST_PROMPT.fullmatch(undressed(line)) is not None


def heads_of(lines: Text) -> npt.NDArray[np.intp]:
    """Return the indices of the lines that begin a head.

    >>> heads_of(lines_of(b"# tracer: nop\\n#\\n")).tolist()
    [0]
    """
    if not len(lines):
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.asarray(pc.match_substring_regex(lines, HEAD)))


def boots_of(lines: Text) -> npt.NDArray[np.intp]:
    """Return the indices of the lines in which a kernel boots or dumps, which begin a head, too.

    >>> boots_of(lines_of(b"# tracer: nop\\n[    0.000000] Linux version 6.1.0\\n")).tolist()
    [1]
    """
    if not len(lines):
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.asarray(pc.match_substring_regex(lines, BOOT)))


def why_not(sample: bytes | bytearray) -> str | None:
    """Return why no form fits the lines of *sample*, as far as the lines themselves tell.

    >>> why_not(b"  a-1  [000] d.h1.  1.000000: ghes_copy_tofrom_phys <-ghes_peek\\n")[:35]
    'it is the text of the function trac'
    """
    lines = lines_of(sample)

    def some(pattern: str) -> bool:
        return bool(np.asarray(pc.match_substring_regex(lines, pattern)).any())

    if some(r"\d:\s+[\w.$+/]+(?: \[\w+\])? <-"):
        return (
            "it is the text of the function tracer, which has functions without their arguments: "
            "kprobe events are needed"
        )
    if some(r"^\s*\d+\)\s+[^|]*\|\s"):
        return "it is the text of the function_graph tracer: kprobe events are needed"
    if some(r"\s\d+\s+\d{1,18}\.(?:\d{6}|\d{9}):\s+(?:\d+\s+)?[A-Za-z_][^\s:]*(?::[^\s:]+)?:\s"):
        return "its lines have no CPU: print it with `perf script -F +cpu`"
    if some(r"\[\d{1,4}\]-0x[0-9a-f]{1,4}\s+\d{1,18}\.\d{6}"):
        return "its flags are numbers: print it without -R, with `trace-cmd report -l`"
    if some(r"\[\d{1,4}\]\s+[A-Za-z.#][A-Za-z.#\d]{3,6}\d{6,}:\s"):
        # trace-cmd from 3.2 on prints nothing between the two: how many digits are flags?
        return "its flags and its stamps are not apart: print it without --raw-ts"
    if some(r"\[\d{1,4}\]\s+(?:[A-Za-z]{1,6}\s+)?[A-Za-z_][\w-]*:[A-Za-z_]\w*:\s"):
        return "its lines have no stamp: print it with `perf script -F +time`"
    if b"\xc2\xa0" in sample and some(r"\[\d{3,4}\].*\d\.\d{6}"):
        return "its blanks are a web page's: `sed 's/\\xc2\\xa0/ /g'` makes them blanks"
    if some(r"-\d+\W{1,3}\[\d{3,4}\]\W{1,3}.*\d\.\d{6}"):
        return "other characters than blanks are between its columns: give it as it was printed"
    if some(r"\[\d{1,4}\]\s+(?:[dDbBX.][^\s:]{3,8}\s+)?\d{1,18}\.(?:\d{6}|\d{9}):\s"):
        return "its lines have no process: `perf script -F +pid`, or print it with all columns"
    if some(r"\s[0-9a-f]{8}\s+[0-9a-f]{8,16}\s+\[[0-9a-f]{8,16}\]\s+\d+\.\d{3}ms\s"):
        return "it was printed with latency-format and verbose: switch the option verbose off"
    if some(r"^# tracer:"):
        if not some(r"^[^#\s]|^\s+[^#\s]"):
            return "it has the head of a trace and no event"
        return (
            "it has ftrace's head, and no line has a task, a CPU and a stamp: switch the options "
            "raw, hex and bin off, and context-info on"
        )
    return None

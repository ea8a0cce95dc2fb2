# SPDX-License-Identifier: Apache-2.0
"""These are the words that reports use, and what `ghesrace explain` says of them: in one place, for
every output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ghesrace.unknowns import UNKNOWNS

Sort = Literal[
    "verdict",
    "class",
    "pattern",
    "uncertainty",
    "reason",
    "loss",
    "rests on",
    "term",
]

SORTS: dict[Sort, str] = {
    "verdict": "verdicts, the worst first",
    "class": "classes: what protected an episode",
    "pattern": "patterns",
    "uncertainty": "why an episode is uncertain",
    "reason": "reasons why a verdict can't be clean",
    "loss": "causes of lost events",
    "rests on": "what a recording can't tell, on which a verdict then rests",
    "term": "other words",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a report: of which sort it is, what it is, and what to do when you meet it."""

    name: str
    sort: Sort
    what: str
    do: str


_RECORD_AGAIN = "Record again with a larger --buffer-kb, or less traffic; the times tell where."
_MAP_FLUSH = (
    "Mend it as today's kernels do: invalidate the slot's page on the reading CPU between map and "
    "access (x86), or broadcast after the unmap (arm64)."
)

WORDS: tuple[Word, ...] = (
    Word(
        "race-observed",
        "verdict",
        "The unprotected window was observed: a CPU accessed the slot while nothing had dropped "
        "an older translation that it may have held; or another pattern was observed. It does not "
        "prove that junk was read: whether the CPU had loaded that translation can't be traced.",
        "Read finding 1 and its steps; `ghesrace show --around 1 FILE` shows the events around it.",
    ),
    Word(
        "race-predicted",
        "verdict",
        "The unprotected window did not occur here, but would in another order of these very "
        "notifications, or without an invalidation that came by luck.",
        "Treat it as a fault of the kernel that has not struck yet; `--fail-on observed` does not "
        "count it.",
    ),
    Word(
        "inconclusive",
        "verdict",
        "Nothing unsafe was seen, but that proves nothing: there was no traffic, or something that "
        "matters was lost or can't be ordered. The reasons say what.",
        "Remove the reasons that the report names, and record again.",
    ),
    Word(
        "clean",
        "verdict",
        "Every access was protected by the kernel's own invalidations, and nothing that could have "
        "said otherwise was lost. Of this recording: another path may not have run.",
        "Nothing. If it rests on something, see that word.",
    ),
    Word(
        "fresh", "class", "The CPU could hold no other translation of the slot: safe.", "Nothing."
    ),
    Word(
        "broadcast",
        "class",
        "The unmaps before it invalidated all CPUs: safe. It is how arm64 does it.",
        "Nothing.",
    ),
    Word(
        "map-flush",
        "class",
        "Its own CPU invalidated the page in the same lock hold, before the access: safe. It is "
        "how today's x86 does it.",
        "Nothing.",
    ),
    Word(
        "same-frame",
        "class",
        "Whatever the CPU could hold maps the same frame, so a stale entry reads the right bytes: "
        "safe for this record.",
        "Nothing here; with sources in other frames the same kernel may race.",
    ),
    Word(
        "incidental",
        "class",
        "Only an invalidation that has nothing to do with the slot fell between: luck. It counts "
        "as predicted.",
        _MAP_FLUSH,
    ),
    Word(
        "none",
        "class",
        "Nothing dropped the older translation: the CPU may have used another frame's bytes. It "
        "counts as observed.",
        _MAP_FLUSH,
    ),
    Word(
        "uncertain",
        "class",
        "What was recorded leaves more than one answer open: some safe, some not. The reasons say "
        "what is open.",
        "See start, loss, order, pti, inconsistent: whichever the reason names.",
    ),
    Word(
        "stale",
        "pattern",
        "A CPU accesses a slot while it may hold an older translation of it, of another frame: "
        "the race that ghesrace is about.",
        _MAP_FLUSH,
    ),
    Word(
        "torn-edit",
        "pattern",
        "A GHES map or unmap meets an unfinished page-table edit (vmap, ioremap, set_fixmap) that "
        "touches the same tables: in a higher context, or beside it with no common lock.",
        "Look at both sides' functions in the finding; the edit needs a lock that the handler "
        "takes too, or tables of its own.",
    ),
    Word(
        "shootdown",
        "pattern",
        "TLB invalidation by interrupts to other CPUs, with waiting, from an NMI, a hard interrupt "
        "or with interrupts off: two CPUs that do so wait for each other for ever.",
        "Find who called it (the finding names the function and context); it must run where "
        "interrupts are on.",
    ),
    Word(
        "overlap",
        "pattern",
        "Two CPUs, or two contexts of one CPU, are in one slot at once: its lock does not hold.",
        "Look at which notifications share the slot, and at the lock that each takes.",
    ),
    Word(
        "start",
        "uncertainty",
        "The CPU may still hold a translation from before the recording began. It is forgiven once "
        "a later episode of that CPU and slot was judged.",
        "Record longer.",
    ),
    Word(
        "loss",
        "uncertainty",
        "Events were lost where one of them may have been what protects, or what harms.",
        _RECORD_AGAIN,
    ),
    Word(
        "order",
        "uncertainty",
        "The clocks of two CPUs differ by more than lies between two of their events, so which "
        "came first is open.",
        "Record on an idle host or with a better clock (`ghesrace doctor` says how exact it is); a "
        "map file may say clock_error_ns.",
    ),
    Word(
        "pti",
        "uncertainty",
        "With page-table isolation kernel entries are not global, so a CR3 write, which can't be "
        "traced, may have dropped the entry.",
        "Boot with nopti for a test, if you may.",
    ),
    Word(
        "inconsistent",
        "uncertainty",
        "The record contradicts the lock of the slot, so the lock is trusted no longer from there.",
        "Look for an overlap, or for events that the file lacks.",
    ),
    Word(
        "no-traffic",
        "reason",
        "No episode was judged: no record was read while this was recorded.",
        "Record longer, or make harmless traffic with --provoke.",
    ),
    Word(
        "truncated",
        "reason",
        "The file ends too early or is damaged: only its intact begin was judged.",
        "Copy the file again, or record again.",
    ),
    Word(
        "probe-failed",
        "reason",
        "A probe that was attached at the begin was gone or refused its work later.",
        "See the kernel's log and `ghesrace doctor`; record again.",
    ),
    Word(
        "not-checked",
        "reason",
        "The pattern needs something that this recording can't tell.",
        "`ghesrace plan` says why on this host; for a foreign trace see --map.",
    ),
    Word(
        "losses",
        "reason",
        "Events were lost that may have been maps or unmaps, so a whole episode may be missing.",
        _RECORD_AGAIN,
    ),
    Word(
        "uncertain",
        "reason",
        "Episodes, or meetings of a pattern, are left open; their number and why stand behind it.",
        "See start, loss, order, pti, inconsistent: whichever it names.",
    ),
    Word(
        "overrun",
        "loss",
        "The ring buffer wrapped before it was read.",
        _RECORD_AGAIN,
    ),
    Word("dropped", "loss", "The ring buffer refused to take an event.", _RECORD_AGAIN),
    Word(
        "missed",
        "loss",
        "The kernel skipped a probe, because its CPU was in a probe already.",
        "Take --backend bpf, or a kernel with fprobe events; `ghesrace plan` says what is used.",
    ),
    Word(
        "nmi-unmatched",
        "loss",
        "The tracepoint nmi:nmi_handler reported a GHES NMI whose handler was not seen to begin.",
        "As for missed: an NMI that interrupts a probe skips the others.",
    ),
    Word(
        "cpu-online",
        "loss",
        "A CPU came online while recording; what it did before was not recorded.",
        "Record again, without CPU hotplug.",
    ),
    Word(
        "truncated",
        "loss",
        "The file ends in the middle of a batch.",
        "Copy the file again, or record again.",
    ),
    Word(
        "clock",
        "loss",
        "Stamps went back: the clock stepped, its source changed, events came late, or several "
        "runs are in one file.",
        "Cut a file of several runs; see the kernel's log for the clocksource.",
    ),
    Word(
        "probe-gone",
        "loss",
        "A probe that was attached is there no longer: somebody removed it, or its module.",
        "Record again, and leave probes and modules alone meanwhile.",
    ),
    Word(
        "unwatched",
        "loss",
        "A module brought GHES functions after the probes were attached.",
        "Load the module first, then record.",
    ),
    Word(
        "unread",
        "loss",
        "A line or an argument of a text can't be read.",
        "The report quotes some of them; a map file may name their fields.",
    ),
    *(
        Word(name, "rests on", f"The verdict rests on this: {what}.", do)
        for (name, what), do in zip(
            UNKNOWNS.items(),
            (
                "Record with the script of `ghesrace plan --format trace-cmd`, or accept it.",
                "Take a trace.dat, or `cat trace` of Linux 4.7 or later, or accept it.",
                "Keep FILE.missed beside the trace.dat, or accept it.",
                "Name the event's fields in a map file, or accept it.",
                'Say arch = "x86_64" or "arm64" in a map file, or accept it.',
                "Record with clock mono, or say clock_error_ns in a map file, or accept it.",
                "Plan as root on the host itself, where /proc/kcore shows its code, or accept it.",
            ),
            strict=True,
        )
    ),
    Word(
        "slot",
        "term",
        "One page-aligned kernel virtual address that GHES maps records at: a fixmap index, or a "
        "page of a vm area before Linux 4.15.",
        "`ghesrace plan` lists this host's.",
    ),
    Word(
        "episode",
        "term",
        "One map to unmap of one slot by one CPU in one context: what a class is given to.",
        "Nothing.",
    ),
    Word(
        "hand-off",
        "term",
        "Two successive episodes of one slot on different CPUs, x then y: only there can y's entry "
        "be of another frame than it reads.",
        "A recording without hand-offs proves little: let other CPUs take notifications too.",
    ),
    Word(
        "latent",
        "term",
        "An episode that began while its CPU might still hold another frame's translation. Today's "
        "x86 leaves these behind with every unmap; the class says what protected each.",
        "Nothing.",
    ),
    Word(
        "finding",
        "term",
        "One fault with its variants: the pairs of CPUs and frames that it was seen with. 1.2 is "
        "the second variant of finding 1.",
        "`ghesrace show --around 1.2 FILE` shows its events.",
    ),
    Word(
        "steps",
        "term",
        "The race in eight steps: 1 x takes a notification, 2 maps p at the slot; 3 y runs other "
        "code and 4 may load the translation into its TLB, which nothing can trace; 5 x unmaps, "
        "invalidating its own TLB only; 6 y takes a notification, 7 maps q at the same slot, "
        "8 and accesses it through its stale entry: it gets p.",
        "docs/rules.md draws them.",
    ),
)


def spelled(name: str) -> str:
    """Return *name* as the words here are spelled.

    >>> spelled("TORN_EDIT")
    'torn-edit'
    """
    return "-".join(name.strip().lower().replace("_", " ").replace("-", " ").split())


def meanings(name: str) -> list[Word]:
    """Return all that *name* means, or [] if it is no word of ours.

    >>> [word.sort for word in meanings("clock")]
    ['loss', 'rests on']
    """
    return [word for word in WORDS if word.name == spelled(name)]


def by_sort() -> Iterator[tuple[str, list[str]]]:
    """Yield each sort of words, in the words of SORTS, with its words.

    >>> next(by_sort())[1]
    ['race-observed', 'race-predicted', 'inconclusive', 'clean']
    """
    for sort, title in SORTS.items():
        yield title, [word.name for word in WORDS if word.sort == sort]

# SPDX-License-Identifier: Apache-2.0
"""Compares what the checker says of a recording with what was really safe.

The true world is one of the worlds that the record leaves open, so what the checker is certain
of must hold in it. `KINDS` says what can be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import SAFE, Class, class_word
from ghesrace.checker.report import Report
from ghesrace.events import Events, Kind
from ghesrace.plan import Plan

from .kernel import Does
from .truth import Episode, Truth, reorders
from .world import Played, World, maps, play

KINDS = {
    "false-clean": "the verdict is clean, and an episode was unsafe or saved by luck alone",
    "safe-but-none": "an episode is surely safe, and could read another frame's bytes",
    "safe-but-luck": "an episode is surely safe, and luck alone saved it",
    "luck-but-none": "an episode is surely saved by luck, and nothing saved it",
    "luck-but-safe": "an episode is surely saved by luck alone, and was safe by structure",
    "none-but-safe": "an episode is surely unsafe, and was safe by structure",
    "none-but-luck": "an episode is surely unsafe, and luck saved it",
    "false-overlap": "two uses of a slot surely overlap, and its lock held",
    "false-torn-edit": "an edit is torn, and no edit of the slot's tables was under way",
    "false-prediction": "another order of the lock holds races, and none does",
    "depends-on-cut": "the answer differs where the stream is cut",
    "depends-on-numbers": "the answer differs as the CPUs are numbered otherwise",
    "depends-on-time": "the answer differs as all stamps are shifted alike",
    "class-depends-on-cut": "the verdict stays, and a class differs where the stream is cut",
    "class-depends-on-numbers": "... as the CPUs are numbered otherwise",
    "class-depends-on-time": "... as all stamps are shifted alike",
    "not-certain": "nothing is open, and an episode or the verdict is not what it must be",
    "crash": "the checker raised",
}
TURNS = ("cut", "numbers", "time")
MANY_CUTS = "many cuts"  # slow: for worlds that are being shrunk
_COUNTS = {Class.INCIDENTAL: Truth.LUCKY, Class.NONE: Truth.UNSAFE}
_WORDS = {Truth.SAFE: "safe", Truth.LUCKY: "luck", Truth.UNSAFE: "none"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is wrong: a key of KINDS, and a sentence about this world."""

    kind: str
    text: str


@dataclass(slots=True)
class Answer:
    """What the checker said. `episodes`: (CPU, seq of the map) -> class, where it tells."""

    report: Report
    episodes: dict[tuple[int, int], Class] = field(default_factory=dict)

    def said(self) -> tuple[Any, ...]:
        """What a user acts on: verdict, how many episodes count as what, and patterns."""
        slots = tuple((s.name, tuple(_grouped(s.classes).items())) for s in self.report.slots)
        patterns = tuple(
            (name, p.observed > 0, p.predicted > 0) for name, p in self.report.patterns.items()
        )
        return (self.report.verdict.word, slots, patterns)

    def classes(self) -> tuple[Any, ...]:
        """The classes, and the causes of uncertainty, of each slot."""
        return tuple((tuple(s.classes), tuple(s.uncertain)) for s in self.report.slots)

    def words(self, exact: bool = False) -> str:
        """The verdict and the classes in a few words."""
        found = [self.report.verdict.word]
        for slot in self.report.slots:
            if exact:
                counts = {class_word(c): slot.classes[c] for c in Class}
            else:
                counts = _grouped(slot.classes)
            told = [f"{name} {n}" for name, n in counts.items() if n]
            found += [f"{slot.name}: {', '.join(told)}"] if told else []
        patterns = self.report.patterns.items()
        found += [f"{name} observed" for name, p in patterns if p.observed and name != "stale"]
        return "; ".join(found)


def _grouped(classes: list[int]) -> dict[str, int]:
    found = dict.fromkeys(("safe", "luck", "none", "uncertain"), 0)
    for cls in Class:
        said = Truth.SAFE if cls in SAFE else _COUNTS.get(cls)
        found["uncertain" if said is None else _WORDS[said]] += classes[cls]
    return found


def ask(plan: Plan, batches: Sequence[Events], engine: Any = Engine) -> Answer:
    """Feed *batches* to a new engine and take its answer."""
    checker = engine(plan)
    answers = [checker.feed(batch) for batch in batches]
    answers.append(checker.finish())
    answer = Answer(checker.report())
    for judged in answers:
        for part in judged or ():
            for episode, cls in zip(part.episodes, part.cls, strict=True):
                name = (int(episode["cpu"]), int(episode["seq_map"]))
                answer.episodes[name] = Class(int(cls))
    return answer


def judge(played: Played, engine: Any = Engine, turns: Sequence[str] = TURNS) -> list[Difference]:
    """Everything that *engine* says wrongly of a world. *turns*: what the answer is checked not
    to depend on."""
    plan, recording = played.recording.plan, played.recording
    try:
        answer = ask(plan, recording.whole(), engine)
    except Exception as error:
        return [Difference("crash", f"{type(error).__name__}: {error}")]
    found = []
    if promised(played):
        found += _episodes(played, answer)
        found += _patterns(played, answer)
        found += _verdict(played, answer)
        if played.world.mode == "plain":
            found += _certain(played, answer)
    found += _turned(played, answer, engine, turns)
    return found


def acts_late(played: Played) -> bool:
    """Whether an invalidation that was recorded before the start, and so dropped, takes effect
    behind it, because an interruption of its context comes between: nothing shows that."""
    world, early = played.world, played.recording.early
    if world.start is None:
        return False
    late = {
        (effect.task, effect.page, effect.does, effect.part)
        for effect in played.history.effects
        if effect.does in (Does.FLUSH, Does.TELL) and effect.at >= world.start
    }
    return any(
        (task, op.page, does, op.part) in late
        for task, step in early
        if task >= 0
        for op in [world.kernel.ops(world.tasks[task])[step]]
        for does in op.does
    )


def promised(played: Played) -> bool:
    """Whether the rules promise anything about this world's episodes.

    They do if every loss left a record, or if the record shows it by itself: unmaps alone are
    missing, each the last of a copy whose begin and end were seen (DESIGN, "Losses").
    """
    world, recording = played.world, played.recording
    if acts_late(played):
        return False
    if world.told or not recording.lost:
        return True
    for task, step in recording.lost:
        if task < 0:
            return False
        ops = world.kernel.ops(world.tasks[task])
        if ops[step].kind != Kind.UNMAP:
            return False
        behind = [op.kind for op in ops[step:]]
        end = behind.index(Kind.COPY_END)
        begin = max(i for i in range(step) if ops[i].kind == Kind.COPY)
        names = {(task, i) for i in range(begin, step + end + 1)} - {(task, step)}
        if Kind.MAP in behind[:end] or names & (recording.early | recording.lost):
            return False
    return True


def _named(played: Played) -> dict[tuple[int, int], Episode]:
    by_name = {episode.name: episode for episode in played.episodes}
    return {at: by_name[name] for at, name in played.recording.maps.items()}


def _episodes(played: Played, answer: Answer) -> list[Difference]:
    """Certain classes that do not hold in the true world."""
    found = []
    recorded = _named(played)
    for at, cls in answer.episodes.items():
        if cls == Class.UNCERTAIN or at not in recorded:
            continue
        episode = recorded[at]
        said = Truth.SAFE if cls in SAFE else _COUNTS[cls]
        if said not in (episode.truth, episode.also):
            word = cls.name.lower().replace("_", "-")
            found.append(
                Difference(
                    f"{_WORDS[said]}-but-{_WORDS[episode.truth]}",
                    f"CPU {episode.cpu}'s map of {letter(episode.frame)} in slot "
                    f"{('irq', 'nmi')[episode.slot]} is called {word}, in truth it was "
                    f"{episode.why}",
                )
            )
    return found or _counted(played, answer, recorded)


def _counted(
    played: Played, answer: Answer, recorded: dict[tuple[int, int], Episode]
) -> list[Difference]:
    """The same by the report's counts, for an engine that does not tell episode by episode."""
    found = []
    for index, slot in enumerate(answer.report.slots):
        said = dict.fromkeys(Truth, 0)
        for cls in Class:
            if cls != Class.UNCERTAIN:
                said[Truth.SAFE if cls in SAFE else _COUNTS[cls]] += slot.classes[cls]
        true = dict.fromkeys(Truth, 0)
        for episode in recorded.values():
            for one in {episode.truth, episode.also}:
                true[one] += episode.slot == index
        for truth in Truth:
            if said[truth] > true[truth]:
                # Which truth it was instead is known where only one other occurs.
                others = [t for t in Truth if t != truth and true[t] > said[t]]
                other = others[0] if others else Truth.SAFE
                found.append(
                    Difference(
                        f"{_WORDS[truth]}-but-{_WORDS[other]}",
                        f"slot {slot.name}: {said[truth]} episodes are called {_WORDS[truth]}, "
                        f"in truth {true[truth]} of those recorded were",
                    )
                )
    return found


def _patterns(played: Played, answer: Answer) -> list[Difference]:
    found = []
    patterns = answer.report.patterns
    if patterns["overlap"].checked and patterns["overlap"].observed:
        found.append(Difference("false-overlap", "an overlap is observed, and every lock held"))
    torn = patterns["torn_edit"]
    if torn.checked and (torn.observed or torn.predicted):
        found.append(
            Difference(
                "false-torn-edit", "a torn edit is told, and no edit of its table was under way"
            )
        )
    names = {slot.name: i for i, slot in enumerate(answer.report.slots)}
    for finding in answer.report.findings:
        if finding.pattern == "stale" and finding.reordered and finding.slot is not None:
            slot = names[finding.slot]
            cpus = {e.cpu for e in _named(played).values() if e.slot == slot}
            if not reorders(played.episodes, slot, alone=len(cpus) == 1):
                text = f"slot {finding.slot}: {finding.explanation}"
                found.append(Difference("false-prediction", text))
                break
    return found


def _verdict(played: Played, answer: Answer) -> list[Difference]:
    """A clean verdict although something was unsafe that the rules do not forgive."""
    if answer.report.verdict.word != "clean":
        return []
    recorded = {episode.name for episode in _named(played).values()}
    early = maps(played.history, played.recording.early)
    for episode in played.episodes:
        if episode.truth == Truth.SAFE or episode.name in early:
            continue
        later = any(
            other.at > episode.at
            and (other.cpu, other.slot) == (episode.cpu, episode.slot)
            and other.name in recorded
            for other in played.episodes
        )
        if episode.since == Truth.SAFE and later:
            continue  # unsafe by what came before the start, and forgiven
        seen = "" if episode.name in recorded else ", which a recorded loss hid,"
        text = f"CPU {episode.cpu}'s map of {letter(episode.frame)}{seen} was {episode.why}"
        return [Difference("false-clean", text)]
    return []


def _certain(played: Played, answer: Answer) -> list[Difference]:
    """Of a plain world: each episode but its CPU's first, and the verdict, must be certain."""
    seen: set[tuple[int, int]] = set()
    must, worst = [], "clean"
    for episode in played.episodes:  # in the order of their maps
        key = (episode.cpu, episode.slot)
        if key in seen:
            must.append(episode)
        seen.add(key)
    at = {name: where for where, name in played.recording.maps.items()}
    for episode in must:
        cls = answer.episodes.get(at[episode.name], Class.UNCERTAIN)
        if answer.episodes and cls == Class.UNCERTAIN:
            return [
                Difference(
                    "not-certain",
                    f"CPU {episode.cpu}'s map of {letter(episode.frame)} is uncertain, and was "
                    f"{episode.why}",
                )
            ]
    slots = {episode.slot for episode in played.episodes}
    alone = {s: len({e.cpu for e in played.episodes if e.slot == s}) == 1 for s in slots}
    if any(reorders(played.episodes, slot, alone[slot]) for slot in slots):
        worst = "race-predicted"
    if any(episode.truth == Truth.LUCKY for episode in must):
        worst = "race-predicted"
    if any(episode.truth == Truth.UNSAFE for episode in must):
        worst = "race-observed"
    first = {e.truth for e in played.episodes if e not in must}
    allowed = {worst}
    if worst != "race-observed" and Truth.UNSAFE in first:
        allowed.add("race-observed")
    if worst == "clean":
        allowed |= {"race-predicted"} if Truth.LUCKY in first else set()
        last = {(e.cpu, e.slot) for e in must}
        allowed |= {"inconclusive"} if seen - last or not seen else set()
    word = answer.report.verdict.word
    if word not in allowed:
        text = f"the verdict is {word}, and must be {' or '.join(sorted(allowed))}"
        return [Difference("not-certain", text)]
    return []


def _turned(played: Played, answer: Answer, engine: Any, turns: Sequence[str]) -> list[Difference]:
    """The same recording, cut, renumbered and shifted: the answer must be the same."""
    world, recording = played.world, played.recording
    dice = Random(world.seed)
    stamps = sorted(set(recording.events["ts"].tolist()))
    found = []

    def compare(kind: str, how: str, plan: Plan, batches: Sequence[Events]) -> None:
        try:
            other = ask(plan, batches, engine)
        except Exception as error:
            found.append(Difference("crash", f"{how}: {type(error).__name__}: {error}"))
            return
        if other.said() != answer.said():
            found.append(Difference(kind, f"{how}: {answer.words()} -> {other.words()}"))
        elif other.classes() != answer.classes():
            text = f"{how}: {answer.words(True)} -> {other.words(True)}"
            found.append(Difference(f"class-{kind}", text))

    if "cut" in turns and stamps:
        cuts = [dice.choice(stamps) + dice.choice((0, 1, 500)) for _ in range(dice.randint(1, 4))]
        compare("depends-on-cut", f"cut at {sorted(cuts)}", recording.plan, recording.cut(*cuts))
    if MANY_CUTS in turns:
        for at in stamps[:: max(len(stamps) // 8, 1)]:
            if not found:
                compare("depends-on-cut", f"cut at {at}", recording.plan, recording.cut(at))
    if "numbers" in turns:
        order = list(range(world.cpus))
        dice.shuffle(order)
        made = recording.renumbered(order)
        compare("depends-on-numbers", f"CPUs called {order}", world.plan_of(order), made.whole())
    if "time" in turns:
        by = dice.choice((1, 1000, 10**12))
        compare("depends-on-time", f"{by} ns later", recording.plan, recording.shifted(by).whole())
    return found


def letter(frame: int) -> str:
    """The letter that litmus cases give to a frame."""
    return chr(ord("A") + ((frame >> 12) & 0xFF))


def judged(world: World, engine: Any = Engine) -> list[Difference]:
    """`judge` of `play`, with one of the turns, by the world's seed: each costs as much as the
    answer itself."""
    return judge(play(world), engine, TURNS[world.seed % 3 : world.seed % 3 + 1])

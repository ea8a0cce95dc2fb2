# SPDX-License-Identifier: Apache-2.0
"""The oracle of worlds: what DESIGN's rules say of a small record, by enumeration.

`judge.judge(record)` is the answer. `record` is what the tracer hands over, `code` what the
kernel's code did, `effects` what can be before what, `worlds` every order of it, `classes` the
table, `losses` what may be hidden, `pairs` and `predictions` the other questions; `kernel` and
`programs` make records, `compare` holds a checker to the answers, `shrink` makes what differs
small. It shares no code with the checker: only the event record and the plan are common to both.
READINGS.md says how it reads DESIGN where that leaves a choice.

    record = Record.of(plan, stream)        # or programs.sample(7)
    for answer in judge(record).episodes:   # of each recorded map
        answer.map, answer.word, answer.causes, answer.worlds
"""

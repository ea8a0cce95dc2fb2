# SPDX-License-Identifier: Apache-2.0
"""An independent oracle for the checker: a small machine, explored exhaustively.

`protocol` says what one notification does, `programs` what each CPU runs, `traces` in which
orders, `machine` what can come of it, `compare` whether the checker says the same. Nothing
here shares code with the checker; only the event record and the plan, its input, are common.
"""

# SPDX-License-Identifier: Apache-2.0
"""Worlds whose truth is known, as a tracer would have recorded them, judged by the checker.

A world is simulated in true time (`kernel`, `machine`), recorded (`tracer`), and its truth told
(`truth`). `judge` compares an answer of the checker with that truth. `python -m tests.worlds`
runs any number of them; what differs is shrunk to a litmus case (`shrink`, `litmus`).
READINGS.md says how DESIGN's rules were read.
"""

# SPDX-License-Identifier: Apache-2.0
"""`python -m lab.forms`: what is recorded is packed, judged and written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.forms import __main__ as forms
from lab.forms.judging import Judged
from lab.forms.page import BEGIN, END
from lab.forms.printing import Form


def test_the_exit_code_says_whether_some_form_is_judged_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with a wrong answer would be committed without a look."""
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    ran: list[str] = []
    form = Form("perf", "`perf script`", "a.txt")
    answer = Judged(form, "race-observed", same=True)
    monkeypatch.setattr(forms, "PAGE", page)
    monkeypatch.setattr(forms, "_record", lambda share: ran.append("record"))
    monkeypatch.setattr(forms, "print_all", lambda share: ran.append("print") or [form])
    monkeypatch.setattr(forms.archive, "pack", lambda *_: ran.append("pack"))
    monkeypatch.setattr(forms.archive, "unpack", lambda *_: [form])
    monkeypatch.setattr(forms, "judge_all", lambda *_: [answer])
    assert forms.main([]) == 0
    assert ran == ["record", "print", "pack"]
    assert "| perf | `perf script` | the same |" in page.read_text()
    answer = Judged(form, "clean")
    assert forms.main(["--judge"]) == 1
    assert ran == ["record", "print", "pack"]

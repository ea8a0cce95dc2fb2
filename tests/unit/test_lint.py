# SPDX-License-Identifier: Apache-2.0
"""The Makefile, and what else says what it does."""

from __future__ import annotations

import re

import yaml

from tests.build.paths import REPO

MAKEFILE = (REPO / "Makefile").read_text()


def test_pre_commit_runs_what_make_lint_runs() -> None:
    """A commit would pass its hooks and fail in CI."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.M)
    assert recipe
    lines = [line.strip() for line in recipe[1].splitlines() if "$(call say" not in line]
    commands = [line.replace("$(VENV)", ".venv") for line in lines]
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert len(commands) >= 5
    assert [hook["entry"] for hook in hooks] == commands
    assert all(hook["always_run"] and not hook["pass_filenames"] for hook in hooks)


def test_make_help_names_each_target() -> None:
    """A target that nobody is told of, or help for one that is gone."""
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", MAKEFILE, flags=re.M)
    assert phony
    targets = {name for name in phony[1].replace("\\", " ").split() if "-packages" not in name}
    told = set(re.findall(r"\bmake ([a-z0-9-]+)", MAKEFILE[: MAKEFILE.index("\ndemo:")]))
    assert targets - told == {"help", "packages"}
    assert told <= targets

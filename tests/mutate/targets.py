# SPDX-License-Identifier: Apache-2.0
"""What is mutated: the modules that are the rule, named once, here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# Modules, and packages with all that is in them. A name that does not exist is an error, so a
# move can't take a part of the rule out of the count unseen.
RULE = ("ghesrace.checker",)


def sources(names: tuple[str, ...] = RULE) -> dict[str, Path]:
    """Module name -> its Python source, of all modules that *names* name. Raises ValueError for
    a name without a source; a compiled module is known by the source beside it.
    """
    found: dict[str, Path] = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} is no module with a source: mend tests/mutate/targets.py")
        origin = Path(spec.origin)
        if spec.submodule_search_locations is None:
            found[name] = origin.with_name(name.rpartition(".")[2] + ".py")
            continue
        for path in sorted(origin.parent.rglob("*.py")):
            parts = path.relative_to(origin.parent).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((name, *parts))] = path
    missing = [str(path) for path in found.values() if not path.is_file()]
    if missing:
        raise ValueError(f"no source: {', '.join(missing)}")
    return found

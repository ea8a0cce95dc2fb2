"""The rule itself, over events in program order; only the engine and the patterns run it."""

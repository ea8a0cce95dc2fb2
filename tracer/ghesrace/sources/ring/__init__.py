"""Raw ring-buffer pages into events."""

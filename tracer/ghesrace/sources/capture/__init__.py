"""Captures of our own: an Arrow IPC stream."""

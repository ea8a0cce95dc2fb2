"""The daemon: its loop, its start and its configuration."""

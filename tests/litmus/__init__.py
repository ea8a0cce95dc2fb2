"""Litmus cases: what CPUs did and what must be said about it, as plain text (README.md)."""

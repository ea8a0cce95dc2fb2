"""The flight recorder: what is kept of a finding."""

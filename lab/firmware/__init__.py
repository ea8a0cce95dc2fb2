"""The firmware on the host: a HEST, CPER records, scenarios."""

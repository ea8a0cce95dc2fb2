"""Kernels to boot, and what can be read of their images."""

# SPDX-License-Identifier: Apache-2.0
"""QEMU plays two machines: a PC, and arm64's virt with UEFI and ACPI."""

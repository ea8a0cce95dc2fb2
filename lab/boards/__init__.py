# SPDX-License-Identifier: Apache-2.0
"""The machines that QEMU plays: a PC, and arm64's virt with UEFI and ACPI."""

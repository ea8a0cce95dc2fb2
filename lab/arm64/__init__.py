"""arm64 guests: Debian's kernels on QEMU's virt machine, with UEFI and ACPI."""

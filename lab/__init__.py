"""The lab: Debian's own kernel under QEMU, with a HEST and a firmware that posts errors."""

EXIT_LAB = 125  # the lab's own failure, as of `docker run` and `timeout`; else the command's code

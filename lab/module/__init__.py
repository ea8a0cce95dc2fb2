"""The positive control: a kernel module that runs the 2015 protocol and really races."""

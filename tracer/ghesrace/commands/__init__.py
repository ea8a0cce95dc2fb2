"""The commands of `ghesrace`, one file each."""

"""Facts and probe points in, a plan out."""

"""Tables of the hash schedulers, computed as the kernel computes them. Pure."""

"""Whether bbqrec computes on a GPU what it computes on the CPU, and how fast: `make gpu-check`.

Every part runs in a process of its own, so that one which fails, or breaks the GPU's context, leaves the others alone.
"""

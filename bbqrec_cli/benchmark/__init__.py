"""Grids of tokenizers × models × seeds: between cli/ and stages/, whose `run` functions it calls."""

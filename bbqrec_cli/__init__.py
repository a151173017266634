"""Semantic IDs from text, pictures and behaviour, and recommendation with them: the reference implementation of BBQRec."""

__version__ = "0.1.0"

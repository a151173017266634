"""Semantic IDs from text, pictures and behaviour, and generative recommendation with them: the BBQRec toolkit."""

__version__ = "0.1.0"

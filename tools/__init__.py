"""Tools of those who develop bbqrec; none is installed with it."""

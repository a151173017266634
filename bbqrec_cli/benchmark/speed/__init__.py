"""`bbqrec benchmark speed`: how fast each part is, beside other programs, measured in turn on the same machine."""

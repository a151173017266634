"""The options of every tokenizer, a file each. No torch here: `--help` and the shell's completion read these files."""

"""The options of every model, a file each. No torch here: `--help` and the shell's completion read these files."""

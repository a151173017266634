"""The options of every source, a file each: `--help` and the shell's completion read these files alone."""

"""The options of every source, one file each: `--help` and shell completion read only these files."""

"""The options of every model, one file each. No torch here: `--help` and shell completion read these files."""

"""The options of every tokenizer, one file each. No torch here: `--help` and shell completion read these files."""

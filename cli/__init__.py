"""The command line: `python3 cli <command>`; standard library only until the pack's own environment exists."""

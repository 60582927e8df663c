"""The command line: each subcommand parses, makes one call of the library and sets the exit code."""

"""The `promptbandit` command, one file a command."""

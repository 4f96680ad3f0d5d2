"""The subcommands of `ourolog`, one module each."""

"""The commands, a file for each group of them. A command parses its arguments, calls the host, and shows the result.

A new command is a function with click's decorators here, and a line in `host.cli`.
"""

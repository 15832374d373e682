"""The commands, a file for each group. A command parses its arguments, calls the host, and shows the result.

They may import all of `host` but each other. A new command is a function with click's decorators here, and a line in
`_COMMANDS` of `host.cli`. A group is named after its noun (`secret`), its commands after their verbs (`set_`).
"""

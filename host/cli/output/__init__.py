"""What the command line shows: tables and words, progress, one rendering of each noun, questions.

It may import all of the host but `host.cli.commands`. A new noun gets a file of its name, which the commands share.
"""

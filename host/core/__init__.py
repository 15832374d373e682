"""What everything else is made of: names, quantities, sliding windows, limits, JSON, operations and results,
attachments, audit events, the environment.

It imports `errors` and nothing else of the host. A type goes here when packages that do not know each other share it.
"""

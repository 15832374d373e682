"""Who may use a server and how much they used: API keys, counters, usage, cancellations.

All of it is in the database.
"""

"""What every face needs, without HTTP: who asks, what is installed, which catalyst has a model, limits, usage, and the
dispatch of one operation.

`dispatch` is the way of a request: admit, run, count. It may import `host.runtime` and what stands below it, and knows
neither HTTP nor click. A new rule about who may do what goes into `principal`; a new limit into `limits`.
"""

"""The composition root: `host` and `catalyst` put a component, its permissions and its capabilities together, and
run it.

`deployment` says what is loaded and with what authority, `loader` compiles, `threads` has the threads and slots of
runs, `events` carries events to their consumer, `workspace` opens the stored state. The package may import everything
below it: capabilities, sandbox, store, oci and what lies under them. A new part of every run is made in `host` or
`catalyst` and handed to the `Run`.
"""

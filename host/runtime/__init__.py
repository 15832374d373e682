"""The composition root: `host` and `catalyst` put a component, its permissions and its capabilities together, and
run it.

`loader` compiles, `events` carries what a run emits to its consumer, `threads` picks the thread of a run, `workspace`
opens what the operator keeps. It may import everything below: capabilities, sandbox, store, oci and what stands under
them. A new thing that every run needs is made in `host` and handed to the `Run`.
"""

"""The service: what every face (gateway, MCP, console, command line) needs, without HTTP.

A face makes an `OperationRequest`. `request` resolves it against the `catalog` (permissions of the `principal`, routing
of models); `dispatch` loads, checks, runs and settles it (`accounts`, `limits`); `local` does so without an event loop.
`targets` and `failover` choose between several catalysts of a model, `stored_objects` knows which of them made what.
`dialects` read providers' answers, `views` render components, runs and keys.

It may import `host.runtime` and the packages below it. Add a rule about callers to `principal`, a limit to `limits`, a
provider to `dialects`, a field that faces show to `views`.
"""

"""Observability: logs, metrics with probes, and traces.

Each file is one of them. It may import `host.service`, the packages below it, and `host.server`'s `asgi` and
`settings`. A new exporter is a new file; `host.server.app` makes it an observer of the dispatch.
"""

"""What operators watch a server by: logs, metrics and probes, traces.

Each file is one of them. It may import `host.service` and what stands below it, and the few helpers of `host.server`.
A new exporter is a new file, begun in `host.server.app`.
"""

"""Pure decisions: the policy document, and which URL, domain, address and secret it allows.

No file here does input or output: every decision is a function of its arguments, and its test is a table. It may import
component, secrets, core and errors. A new field of a policy goes into `document`, its decision into `permissions`, and
its row for people into `explain`. `diff` compares the requests of two versions.
"""

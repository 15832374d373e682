"""Pure decisions: what a policy says, which URL, domain, address and secret it allows, and why.

No file here reads, sends or looks up anything: every decision is a function of its arguments, and its test a table. It
may import component, secrets, core and errors. A new field of a policy goes into `document`, its meaning into
`permissions`, and its words into `explain`.
"""

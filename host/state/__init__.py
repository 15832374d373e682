"""What the operator keeps: components, sealed secrets, policies, grants, trusted keys, and the record of all of it."""

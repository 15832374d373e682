"""Access to a server: API keys (`api_keys`), counters of limits (`counters`), usage by day (`usage`), and requests to
end a run (`cancellations`). All of it is in the database."""

"""Access to a server: API keys (`api_keys`), counters of limits (`counters`), usage by day (`usage`), requests to
end a run (`cancellations`), and batches that a server runs itself (`batches`). All of it is in the database."""

"""Guest code: what runs inside the sandbox."""

"""What Alembic runs: in the transaction that it was handed, and nothing else."""

from __future__ import annotations

from alembic import context

from host.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

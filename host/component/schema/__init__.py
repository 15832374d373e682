"""What a manifest says of a JSON value, enforced: JSON Schema, of the drafts 2020-12, 2019-09 and 7.

    checking.py   one pass over a value: its steps counted, its mistakes collected
    words.py      a mistake as people read it
    assertions.py, applicators.py   each keyword, read from a schema and made a rule
    document.py   a schema as a whole: its references, its bounds, what of it is refused

Schema and value both come from strangers, and a check stands before every run. Libraries do this in native code that
nothing bounds: jsonschema-rs 0.60 took 10 s and 1.6 GB to list the mistakes of a million numbers. So it is done here,
within a number of steps. Patterns alone are that library's, for an engine that cannot backtrack; it is imported for a
schema that has some.
"""

from host.component.schema.document import InputSchema

__all__ = ["InputSchema"]

"""The configuration: schema, parsing, alternatives."""

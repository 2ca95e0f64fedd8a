"""Typed configuration: one schema, YAML with `key=value` overrides, patches, and the names other frameworks use."""

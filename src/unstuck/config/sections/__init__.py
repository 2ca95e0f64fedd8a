"""The sections of a recipe, one class a file. `unstuck.config.schema` puts them together."""

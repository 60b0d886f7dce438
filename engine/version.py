"""The engine's version, stored with every allocation so that a figure can be traced to its formulas."""

ENGINE_VERSION = "0.1.0"

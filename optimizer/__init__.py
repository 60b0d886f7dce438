"""From failing calls to suggestions: what to read, what it has in common, what to propose."""

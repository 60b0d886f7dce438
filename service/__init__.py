"""The verbs: one use-case a file, one transaction each. The caller opens the transaction."""

"""The scheduled optimizer: failing calls become suggestions."""

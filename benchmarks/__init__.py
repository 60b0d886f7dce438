"""Questions about cost, answered as ratios in one run."""

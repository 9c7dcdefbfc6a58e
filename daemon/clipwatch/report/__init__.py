"""One page to look at: the curve, the images, the verdicts."""

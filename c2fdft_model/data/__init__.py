"""Training data: pairs of images, the patch cycle, layouts of the published data sets."""

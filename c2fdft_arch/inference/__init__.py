"""The network without gradients: whole images, in bounded memory."""

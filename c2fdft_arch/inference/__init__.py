"""The network without gradients: whole images, exactly and in bounded memory."""

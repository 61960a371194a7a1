"""Export z_what to TensorBoard's embedding projector."""

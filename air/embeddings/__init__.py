"""Export z_what to TensorBoard's projector."""

"""What every room uses and what knows nothing of AIR: files, arrays, pictures, command lines."""

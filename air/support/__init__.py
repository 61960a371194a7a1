"""Utilities that know nothing of AIR: files, arrays, pictures, drawings, command lines and their output."""

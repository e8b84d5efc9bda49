"""Procedural pictures with exact ground truth, so that builders run offline and every answer can be checked."""

"""Arithmetic on quantised weights: block formats, dequantisation, linear layers, backends and their dispatch."""

"""Inference: scans and pages in, labelled words and fields out. Imports training, run and data; never AWS."""

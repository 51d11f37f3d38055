"""Scores of predicted word labels: entities, fields, decoding, calibration."""

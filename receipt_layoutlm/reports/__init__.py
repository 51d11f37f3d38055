"""Reports: pictures and pages for people. Imports run and data; no torch, no AWS."""

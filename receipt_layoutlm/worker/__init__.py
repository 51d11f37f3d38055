"""Claims a job, runs an attempt of it and records the outcome. Imports datasets and below; starts the trainer."""

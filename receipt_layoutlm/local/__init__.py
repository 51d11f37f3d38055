"""The embedded AWS behind --local. Imports the shared vocabulary only."""

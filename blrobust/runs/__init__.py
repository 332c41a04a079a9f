"""Run folders: what was asked, what is done, and under which versions."""

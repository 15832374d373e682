"""OpenAI's API as a fake: one file for each resource, `fake.py` puts them together."""

"""How providers name things: a file for each provider's way of telling tokens, text and models.

A new provider is a new file with the functions of `openai`.
"""

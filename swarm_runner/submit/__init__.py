"""Submit descriptions: the submit language, descriptions and batches, and the translation.

Nothing here reads a file or opens a connection.
"""

"""Submit descriptions: the submit language, one invocation's description, the translation. No I/O."""

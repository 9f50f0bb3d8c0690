"""The operator: reads ModelRuntime objects, applies what serves them, and tells the truth about it in their status."""

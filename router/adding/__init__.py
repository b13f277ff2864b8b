"""Adding a model of the owner: what its checkpoint says, what it will take, and the text that describes it."""

"""Files that engines need, fetched before they start: each is checked against what its publisher says of it."""

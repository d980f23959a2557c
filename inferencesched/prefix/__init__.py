"""Which endpoint holds which prefix: hashing, the radix tree, the index, and what feeds them."""

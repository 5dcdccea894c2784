"""What the features of a frozen network are worth: a linear head and nearest neighbors on them."""

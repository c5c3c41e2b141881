"""The ground: operations that every target has, numbers of two words, the functions made of them.  It knows no loss."""

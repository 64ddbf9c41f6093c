"""Stands before the real one while the book is made: figures and questions then give their static forms."""

raise ImportError("the book has no widgets: a page that is only read can't answer them")
